//! Options of a plugin on the command line: words, read as the plugin's schema says.

use crate::failure::Failure;
use serde_json::{Map, Value, json};

/// `NAME=VALUE`, or `NAME` alone for a flag that is on.
pub(crate) fn pair(word: &str) -> (&str, Option<&str>) {
    word.split_once('=').map_or((word, None), |(name, value)| (name, Some(value)))
}

/// Names and values by the JSON Schema of what may be there, as a JSON object. What is a list is given several times.
///
/// # Errors
/// Which option is not there, is given twice, or is not of its type.
pub(crate) fn by_schema<'a>(
    given: impl IntoIterator<Item = (&'a str, Option<&'a str>)>,
    schema: &Value,
) -> Result<Value, Failure> {
    let mut options = Map::new();
    let known = schema.get("properties").and_then(Value::as_object).cloned().unwrap_or_default();
    for (key, value) in given {
        let Some(property) = known.get(key) else {
            let names: Vec<&str> = known.keys().map(String::as_str).collect();
            let there = if names.is_empty() { "no options".to_owned() } else { names.join(", ") };
            return Err(Failure::usage(format!("the plugin has no option \"{key}\""))
                .help(format!("it has: {there}")));
        };
        let of = |kind: &Value| parsed(value, kind).map_err(|why| Failure::usage(format!("{key}: {why}")));
        match property["type"].as_str() {
            Some("array") => {
                let item = of(&property["items"])?;
                let items = options.entry(key).or_insert_with(|| json!([]));
                items.as_array_mut().expect("made as a list").push(item);
            }
            _ => {
                if options.insert(key.to_owned(), of(property)?).is_some() {
                    return Err(Failure::usage(format!("{key}: is there twice")));
                }
            }
        }
    }
    Ok(Value::Object(options))
}

fn parsed(text: Option<&str>, kind: &Value) -> Result<Value, String> {
    let kind = kind["type"].as_str();
    let text = match text {
        None if kind == Some("boolean") => return Ok(json!(true)),
        None => return Err("a value is missing: write NAME=VALUE".to_owned()),
        Some(text) => text,
    };
    match kind {
        Some("boolean") => match text {
            "true" | "on" | "yes" => Ok(json!(true)),
            "false" | "off" | "no" => Ok(json!(false)),
            _ => Err(format!("\"{text}\" is neither on nor off")),
        },
        Some("integer") => {
            let digits = text.replace('_', "");
            let number = match digits.strip_prefix("0x") {
                Some(digits) => u64::from_str_radix(digits, 16).map(Value::from),
                None => {
                    digits.parse::<i64>().map(Value::from).or_else(|_| digits.parse::<u64>().map(Value::from))
                }
            };
            number.map_err(|_| format!("\"{text}\" is no integer"))
        }
        Some("number") => match text.parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(json!(number)),
            Ok(_) | Err(_) => Err(format!("\"{text}\" is no number")),
        },
        _ => Ok(json!(text)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_follow_the_schema() {
        let schema = json!({ "properties": {
            "out": { "type": "string" }, "elf": { "type": "array", "items": { "type": "string" } },
            "depth": { "type": "integer" }, "all": { "type": "boolean" }, "rate": { "type": "number" },
        } });
        let options = |text: &str| {
            let words = text.split(',').filter(|word| !word.is_empty());
            by_schema(words.map(pair), &schema)
        };
        let good = options("elf=a.elf,out=x,elf=b.elf,depth=0x1_0,all,rate=1.5").unwrap();
        assert_eq!(
            good,
            json!({ "elf": ["a.elf", "b.elf"], "out": "x", "depth": 16, "all": true, "rate": 1.5 })
        );
        assert_eq!(options("").unwrap(), json!({}));
        for (text, why) in [
            (
                "outt=x",
                "error: the plugin has no option \"outt\"\n  = help: it has: all, depth, elf, out, rate\n",
            ),
            ("out", "error: out: a value is missing: write NAME=VALUE\n"),
            ("out=x,out=y", "error: out: is there twice\n"),
            ("depth=x", "error: depth: \"x\" is no integer\n"),
            ("all=maybe", "error: all: \"maybe\" is neither on nor off\n"),
            ("rate=inf", "error: rate: \"inf\" is no number\n"),
        ] {
            assert_eq!(options(text).unwrap_err().to_string(), why);
        }
    }
}
