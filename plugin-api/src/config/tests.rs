use super::*;
use crate::DeviceConfig;

#[derive(DeviceConfig, Debug, PartialEq)]
struct Config {
    /// Input clock,
    /// in Hz.
    ///
    /// More.
    #[config(default = 3_686_400, min = 1, max = 1_000_000_000)]
    clock_hz: u32,
    #[config(board = "harts")]
    harts: u32,
    #[config(default = "x", one_of = ["x", "y"])]
    mode: String,
    label: Option<String>,
    #[config(default = [1, 2], max = 9)]
    lines: Vec<u32>,
    #[config(default = true)]
    on: bool,
    base: u64,
    #[config(min = -5)]
    offset: Option<i64>,
}

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::from_json(&text.parse().unwrap())
}

#[test]
fn what_is_left_out_has_its_default() {
    let config = parse(r#"{"harts": 2, "base": 18446744073709551615}"#).unwrap();
    let expected = Config {
        clock_hz: 3_686_400,
        harts: 2,
        mode: "x".to_owned(),
        label: None,
        lines: vec![1, 2],
        on: true,
        base: u64::MAX,
        offset: None,
    };
    assert_eq!(config, expected);
}

#[test]
fn options_survive_json() {
    let text =
        r#"{"harts": 2, "base": 1, "label": "l", "lines": [], "on": false, "mode": "y", "offset": -5}"#;
    let config = parse(text).unwrap();
    assert_eq!(Config::from_json(&config.to_json()).unwrap(), config);
}

#[test]
fn mistakes_name_the_option() {
    let case = |option: &str| {
        let error = parse(&format!("{{\"harts\": 1, \"base\": 1, {option}}}")).unwrap_err();
        format!("{}: {}", error.path, error.message)
    };
    assert_eq!(case(r#""clock_hz": 0"#), "clock_hz: 0 is less than 1, the minimum");
    assert_eq!(
        case(r#""clock_hz": 1000000001"#),
        "clock_hz: 1000000001 is more than 1000000000, the maximum"
    );
    assert_eq!(case(r#""clock_hz": 1.5"#), "clock_hz: expected an integer, found a number with a fraction");
    assert_eq!(case(r#""clok_hz": 1"#), "clok_hz: unknown option");
    assert_eq!(case(r#""mode": "z""#), "mode: \"z\" is none of x, y");
    assert_eq!(case(r#""label": 3"#), "label: expected a string, found an integer");
    assert_eq!(case(r#""lines": [1, 10]"#), "lines: 10 is more than 9, the maximum");
    assert_eq!(case(r#""lines": [1, "a"]"#), "lines: element 1: expected an integer, found a string");
    assert_eq!(case(r#""lines": [-1]"#), "lines: element 0: -1 does not fit in u32");
    assert_eq!(case(r#""on": 1"#), "on: expected true or false, found an integer");
    assert_eq!(case(r#""offset": -6"#), "offset: -6 is less than -5, the minimum");
    assert_eq!(parse("{}").unwrap_err(), ConfigError { path: "harts".into(), message: "missing".into() });
    assert_eq!(parse("[]").unwrap_err().message, "expected a table of options, found a list");
}

#[test]
fn the_schema_says_what_is_checked() {
    let schema = Config::schema();
    let property = |name: &str| &schema["properties"][name];
    let clock = json!({
        "type": "integer", "minimum": 1, "maximum": 1_000_000_000, "default": 3_686_400,
        "description": "Input clock, in Hz.",
    });
    assert_eq!(*property("clock_hz"), clock);
    assert_eq!(property("harts")["x-board"], "harts");
    assert_eq!(property("mode")["enum"], json!(["x", "y"]));
    assert_eq!(property("lines")["items"]["maximum"], 9);
    assert_eq!(property("base")["maximum"], json!(u64::MAX));
    assert_eq!(property("offset")["minimum"], -5);
    assert_eq!(schema["required"], json!(["base"]));
    assert_eq!(schema["additionalProperties"], false);
}
