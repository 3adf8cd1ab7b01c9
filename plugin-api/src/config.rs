//! Device options: values with a schema.

pub use reprise_abi::desc::ConfigError;
use serde_json::{Map, Value, json};

/// Options of a device. Derive it:
///
/// ```
/// # use reprise_plugin_api::DeviceConfig;
/// #[derive(DeviceConfig)]
/// pub struct Config {
///     /// Input clock of the baud rate generator, in Hz.
///     #[config(default = 3_686_400, min = 1, max = 1_000_000_000)]
///     pub clock_hz: u32,
///     /// Number of harts of the board.
///     #[config(board = "harts")]
///     pub harts: u32,
///     /// How the lines are driven.
///     #[config(default = "push-pull", one_of = ["push-pull", "open-drain"])]
///     pub drive: String,
///     /// For messages.
///     pub label: Option<String>,
/// }
///
/// let config = Config::from_json(&r#"{"harts": 4}"#.parse().unwrap()).unwrap();
/// assert_eq!((config.clock_hz, config.harts), (3_686_400, 4));
///
/// let error = Config::from_json(&r#"{"harts": 4, "clock_hz": 0}"#.parse().unwrap()).err().unwrap();
/// assert_eq!((error.path.as_str(), error.message.as_str()), ("clock_hz", "0 is less than 1, the minimum"));
/// ```
///
/// A field may be a `bool`, an integer, a `String`, a `Vec` of these or an `Option` of these. Its documentation is the
/// description in the schema. A field with neither a default nor an `Option` is required; one with `board` is filled by
/// the host from the board's value of that name. `min`, `max` and `one_of` apply to each element of a `Vec`.
pub trait DeviceConfig: Default + Sized + 'static {
    /// JSON Schema (draft 2020-12, an `object`).
    fn schema() -> Value;

    /// Check and take options.
    ///
    /// # Errors
    /// The first option that is unknown, missing, of another type or out of range.
    fn from_json(options: &Value) -> Result<Self, ConfigError>;

    /// All options with their values, such that [`DeviceConfig::from_json`] gives the same again.
    fn to_json(&self) -> Value;
}

/// No options.
impl DeviceConfig for () {
    fn schema() -> Value {
        schema([])
    }

    fn from_json(options: &Value) -> Result<Self, ConfigError> {
        Options::new(options, &[]).map(|_| ())
    }

    fn to_json(&self) -> Value {
        json!({})
    }
}

/// A type that may be an option.
pub trait ConfigValue: Sized {
    /// Its schema, without defaults and limits of the single option.
    fn schema() -> Map<String, Value>;

    /// Take it from JSON.
    ///
    /// # Errors
    /// What is wrong: lower case, without a period.
    fn from_json(value: &Value) -> Result<Self, String>;

    /// As JSON.
    fn to_json(&self) -> Value;

    /// The value when the option is left out, if it may be.
    #[must_use]
    fn when_missing() -> Option<Self> {
        None
    }

    /// A stand-in until the option is set.
    #[doc(hidden)]
    fn placeholder() -> Self;

    /// The schema to which `min`, `max` and `one_of` belong.
    #[doc(hidden)]
    fn limits(schema: &mut Map<String, Value>) -> &mut Map<String, Value> {
        schema
    }
}

fn typed(name: &str) -> Map<String, Value> {
    Map::from_iter([("type".to_owned(), json!(name))])
}

fn expected(what: &str, found: &Value) -> String {
    let found = match found {
        Value::Null => "nothing",
        Value::Bool(_) => "a boolean",
        Value::Number(n) if n.is_f64() => "a number with a fraction",
        Value::Number(_) => "an integer",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "a table",
    };
    format!("expected {what}, found {found}")
}

fn integer(value: &Value) -> Option<i128> {
    value.as_i64().map(i128::from).or_else(|| value.as_u64().map(i128::from))
}

macro_rules! integers {
    ($($int:ty)*) => { $(
        impl ConfigValue for $int {
            fn schema() -> Map<String, Value> {
                let mut schema = typed("integer");
                schema.insert("minimum".to_owned(), json!(Self::MIN));
                schema.insert("maximum".to_owned(), json!(Self::MAX));
                schema
            }

            fn from_json(value: &Value) -> Result<Self, String> {
                let wide = integer(value).ok_or_else(|| expected("an integer", value))?;
                Self::try_from(wide).map_err(|_| format!("{wide} does not fit in {}", stringify!($int)))
            }

            fn to_json(&self) -> Value {
                json!(self)
            }

            fn placeholder() -> Self {
                0
            }
        }
    )* };
}

integers! { u8 u16 u32 u64 i8 i16 i32 i64 }

impl ConfigValue for bool {
    fn schema() -> Map<String, Value> {
        typed("boolean")
    }

    fn from_json(value: &Value) -> Result<Self, String> {
        value.as_bool().ok_or_else(|| expected("true or false", value))
    }

    fn to_json(&self) -> Value {
        json!(self)
    }

    fn placeholder() -> Self {
        false
    }
}

impl ConfigValue for String {
    fn schema() -> Map<String, Value> {
        typed("string")
    }

    fn from_json(value: &Value) -> Result<Self, String> {
        value.as_str().map(str::to_owned).ok_or_else(|| expected("a string", value))
    }

    fn to_json(&self) -> Value {
        json!(self)
    }

    fn placeholder() -> Self {
        Self::new()
    }
}

impl<T: ConfigValue> ConfigValue for Vec<T> {
    fn schema() -> Map<String, Value> {
        let mut schema = typed("array");
        schema.insert("items".to_owned(), Value::Object(T::schema()));
        schema
    }

    fn from_json(value: &Value) -> Result<Self, String> {
        let items = value.as_array().ok_or_else(|| expected("a list", value))?;
        let item =
            |(index, item)| T::from_json(item).map_err(|message| format!("element {index}: {message}"));
        items.iter().enumerate().map(item).collect()
    }

    fn to_json(&self) -> Value {
        self.iter().map(T::to_json).collect()
    }

    fn placeholder() -> Self {
        Self::new()
    }

    fn limits(schema: &mut Map<String, Value>) -> &mut Map<String, Value> {
        T::limits(schema.get_mut("items").and_then(Value::as_object_mut).expect("a list's schema has items"))
    }
}

impl<T: ConfigValue> ConfigValue for Option<T> {
    fn schema() -> Map<String, Value> {
        T::schema()
    }

    fn from_json(value: &Value) -> Result<Self, String> {
        if value.is_null() { Ok(None) } else { T::from_json(value).map(Some) }
    }

    fn to_json(&self) -> Value {
        self.as_ref().map_or(Value::Null, T::to_json)
    }

    fn when_missing() -> Option<Self> {
        Some(None)
    }

    fn placeholder() -> Self {
        None
    }

    fn limits(schema: &mut Map<String, Value>) -> &mut Map<String, Value> {
        T::limits(schema)
    }
}

/// What the derive knows of one option.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    pub name: &'static str,
    pub doc: &'static str,
    pub board: Option<&'static str>,
    pub min: Option<i128>,
    pub max: Option<i128>,
    pub one_of: &'static [&'static str],
}

impl Rule {
    fn check(&self, value: &Value) -> Result<(), String> {
        if let Some(items) = value.as_array() {
            return items.iter().try_for_each(|item| self.check(item));
        }
        if let Some(n) = integer(value) {
            if let Some(min) = self.min.filter(|min| n < *min) {
                return Err(format!("{n} is less than {min}, the minimum"));
            }
            if let Some(max) = self.max.filter(|max| n > *max) {
                return Err(format!("{n} is more than {max}, the maximum"));
            }
        }
        match value.as_str() {
            Some(text) if !self.one_of.is_empty() && !self.one_of.contains(&text) => {
                Err(format!("{text:?} is none of {}", self.one_of.join(", ")))
            }
            _ => Ok(()),
        }
    }
}

/// One property of a schema.
#[doc(hidden)]
#[derive(Debug)]
pub struct Property {
    rule: Rule,
    schema: Map<String, Value>,
    required: bool,
}

impl Property {
    /// The property for a `T`; a field with a default is not required.
    #[must_use]
    pub fn new<T: ConfigValue>(rule: Rule, default: Option<&T>) -> Self {
        let mut schema = T::schema();
        let limits = T::limits(&mut schema);
        for (key, limit) in [("minimum", rule.min), ("maximum", rule.max)] {
            if let Some(limit) = limit.and_then(serde_json::Number::from_i128) {
                limits.insert(key.to_owned(), Value::Number(limit));
            }
        }
        if !rule.one_of.is_empty() {
            limits.insert("enum".to_owned(), json!(rule.one_of));
        }
        let texts = [("description", Some(rule.doc).filter(|doc| !doc.is_empty())), ("x-board", rule.board)];
        schema.extend(texts.into_iter().filter_map(|(key, text)| Some((key.to_owned(), json!(text?)))));
        if let Some(default) = default {
            schema.insert("default".to_owned(), default.to_json());
        }
        // The board can always fill what it offers: its stanza need not.
        let required = default.is_none() && T::when_missing().is_none() && rule.board.is_none();
        Self { rule, schema, required }
    }
}

/// The schema of these properties.
#[doc(hidden)]
#[must_use]
pub fn schema<const N: usize>(properties: [Property; N]) -> Value {
    let required: Vec<_> = properties.iter().filter(|p| p.required).map(|p| p.rule.name).collect();
    let required = json!(required);
    let properties: Map<_, _> =
        properties.into_iter().map(|p| (p.rule.name.to_owned(), Value::Object(p.schema))).collect();
    json!({
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": false,
    })
}

/// Options on their way into a struct.
#[doc(hidden)]
#[derive(Debug)]
pub struct Options<'a>(&'a Map<String, Value>);

impl<'a> Options<'a> {
    /// Refuse anything but an object of these options.
    ///
    /// # Errors
    /// Another one is there.
    pub fn new(options: &'a Value, known: &[&str]) -> Result<Self, ConfigError> {
        let Some(map) = options.as_object() else {
            return Err(ConfigError {
                path: String::new(),
                message: expected("a table of options", options),
            });
        };
        match map.keys().find(|key| !known.contains(&key.as_str())) {
            Some(key) => Err(ConfigError { path: key.clone(), message: "unknown option".to_owned() }),
            None => Ok(Self(map)),
        }
    }

    /// One option, checked.
    ///
    /// # Errors
    /// It is missing without a default, of another type, or breaks its rule.
    pub fn take<T: ConfigValue>(&self, rule: Rule, default: Option<T>) -> Result<T, ConfigError> {
        let result = match self.0.get(rule.name) {
            Some(value) => rule.check(value).and_then(|()| T::from_json(value)),
            None => default.or_else(T::when_missing).ok_or_else(|| "missing".to_owned()),
        };
        result.map_err(|message| ConfigError { path: rule.name.to_owned(), message })
    }
}

#[cfg(test)]
mod tests;
