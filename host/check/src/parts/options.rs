//! Loading, describing, and what a device makes of its options.

use crate::{
    finding::Finding,
    phrases::Phrases,
    rings,
    rule::Rule,
    script::{self, Reach, Rng},
    session::{Outcome, Session, uncreated},
    subject::{Maker, Subject},
    world::Breach,
};
use serde_json::{Map, Value, json};

/// Combinations of options that are tried.
const COMBINATIONS: u64 = 64;
/// Steps that a device with odd options is driven.
const STEPS: u32 = 64;

/// The plugin is loaded already: say what is in it.
pub(super) fn load(session: &Session) -> Outcome {
    let kinds = serde_json::to_value(session.maker.plugin.kinds()).expect("descriptors came as JSON");
    Outcome {
        data: json!({ "kinds": kinds, "api": session.maker.plugin.api_version() }),
        ..Outcome::default()
    }
}

/// Descriptor, options, creation.
pub(super) fn options(session: &Session) -> Outcome {
    let mut subject = match Subject::new(&session.maker) {
        Ok(subject) => subject,
        Err(error) => return uncreated(&error).into(),
    };
    let facts = rings::is_virtio(subject.desc()).then(|| rings::learn(|op| subject.apply(op).value));
    let mut findings = Vec::from_iter(descriptor(session));
    let schema = &subject.desc().schema;
    if let Some(base) = serde_json::from_str::<Value>(&session.job.options).ok().and_then(object) {
        findings.extend(refusals(session, &base, &properties(schema)));
    }
    Outcome { findings, skipped: None, data: json!({ "virtio": facts }) }
}

/// Any options that the schema allows.
pub(super) fn variants(session: &Session) -> Outcome {
    let subject = match session.subject() {
        Ok(subject) => subject,
        Err(finding) => return finding.into(),
    };
    let properties = properties(&subject.desc().schema);
    let base = serde_json::from_str::<Value>(&session.job.options).ok().and_then(object);
    base.filter(|_| !properties.is_empty()).and_then(|base| combinations(session, &base, &properties)).into()
}

fn properties(schema: &Value) -> Map<String, Value> {
    schema.get("properties").cloned().and_then(object).unwrap_or_default()
}

fn object(value: Value) -> Option<Map<String, Value>> {
    match value {
        Value::Object(map) => Some(map),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => None,
    }
}

fn descriptor(session: &Session) -> Option<Finding> {
    let (plugin, kind, options) = (&session.maker.plugin, &session.job.kind, &session.job.options);
    session.progress.topic("describing");
    let first = plugin.describe_with(kind, options).ok()?;
    let second = plugin.describe_with(kind, options).ok()?;
    let created = session.maker.create().ok()?;
    for (other, what) in [(&second, "described again"), (created.desc(), "described when created")] {
        let (left, right) = (json!(first), json!(other));
        let fields = left.as_object()?.iter();
        if let Some((field, left)) = fields.into_iter().find(|(field, left)| right.get(field) != Some(left)) {
            let shown = |value: &Value| value.to_string().chars().take(200).collect::<String>();
            let right = right.get(field).map(shown).unwrap_or_default();
            let difference = crate::compare::Difference::new(field, shown(left), right);
            return Some(Finding::new(Rule::DESCRIBES, what).differs(difference));
        }
    }
    None
}

/// Options with one changed.
fn with(base: &Map<String, Value>, name: &str, value: Value) -> String {
    let mut options = base.clone();
    options.insert(name.to_owned(), value);
    Value::Object(options).to_string()
}

fn refusals(
    session: &Session,
    base: &Map<String, Value>,
    properties: &Map<String, Value>,
) -> Option<Finding> {
    let strange = "no_such_option";
    let unknown = std::iter::once((strange.to_owned(), json!(1)));
    let known = properties.iter().flat_map(|(name, schema)| {
        wrong_values(schema).into_iter().map(|value| (name.clone(), value)).collect::<Vec<_>>()
    });
    for (name, value) in unknown.chain(known) {
        let text = format!("{name} = {value}");
        session.progress.topic(format!("creating with {text}"));
        let maker = Maker { options: with(base, &name, value), ..session.maker.clone() };
        match maker.create() {
            Ok(_) => {
                return Some(Finding::new(Rule::REFUSES, format!("takes {text}, which its schema excludes")));
            }
            Err(error) if error.path.split(['.', '[']).next() != Some(&name) => {
                let what = format!("refuses {text} without naming the option: {error}");
                return Some(Finding::new(Rule::REFUSES, what));
            }
            Err(_) => {}
        }
    }
    None
}

/// Values that a property's schema excludes.
fn wrong_values(schema: &Value) -> Vec<Value> {
    let wide = |key: &str, step: i128| {
        let limit = schema.get(key)?;
        let limit = limit.as_i64().map(i128::from).or_else(|| limit.as_u64().map(i128::from))?;
        serde_json::Number::from_i128(limit + step).map(Value::Number)
    };
    let mut all: Vec<Value> = [wide("minimum", -1), wide("maximum", 1)].into_iter().flatten().collect();
    match schema.get("type").and_then(Value::as_str) {
        Some("integer") => all.extend([json!("text"), json!(1.5)]),
        Some("boolean") => all.push(json!("yes")),
        Some("string") => all.push(json!(1)),
        Some("array") => all.push(json!(true)),
        Some(_) | None => {}
    }
    if schema.get("enum").is_some() {
        all.push(json!("none of these"));
    }
    all
}

/// Values that a property's schema allows, at its limits.
fn right_values(schema: &Value) -> Vec<Value> {
    if let Some(values) = schema.get("enum").and_then(Value::as_array) {
        return values.clone();
    }
    match schema.get("type").and_then(Value::as_str) {
        Some("integer") => {
            let mut all: Vec<Value> =
                ["minimum", "maximum"].iter().filter_map(|key| schema.get(*key).cloned()).collect();
            let fits = |value: &i64| {
                let least = schema.get("minimum").and_then(Value::as_i64).unwrap_or(i64::MIN);
                let most = schema.get("maximum").and_then(Value::as_i64).unwrap_or(i64::MAX);
                (least..=most).contains(value)
            };
            all.extend([0, 1, 3, 1 << 12].iter().filter(|value| fits(value)).map(|value| json!(value)));
            all
        }
        Some("boolean") => vec![json!(false), json!(true)],
        Some("string") => vec![json!(""), json!("x"), json!("ä".repeat(300))],
        Some("array") => {
            let items = schema.get("items").map(right_values).unwrap_or_default();
            vec![json!([]), json!(items)]
        }
        Some(_) | None => Vec::new(),
    }
}

fn combinations(
    session: &Session,
    base: &Map<String, Value>,
    properties: &Map<String, Value>,
) -> Option<Finding> {
    let choices: Vec<(&String, Vec<Value>)> =
        properties.iter().map(|(name, schema)| (name, right_values(schema))).collect();
    let singles =
        choices.iter().flat_map(|(name, values)| values.iter().map(|v| with(base, name, v.clone())));
    let mut rng = Rng::new(session.job.seed);
    let mixed: Vec<String> = (0..COMBINATIONS)
        .map(|_| {
            let mut options = base.clone();
            for (name, values) in choices.iter().filter(|(_, values)| !values.is_empty()) {
                options.insert((*name).clone(), values[rng.below(values.len() as u64) as usize].clone());
            }
            Value::Object(options).to_string()
        })
        .collect();
    singles.chain(mixed).find_map(|options| lives_with(session, options))
}

fn lives_with(session: &Session, options: String) -> Option<Finding> {
    session.progress.topic(format!("with options {options}"));
    let maker = Maker { options: options.clone(), ..session.maker.clone() };
    let bad = |what: String| Some(Finding::new(Rule::CREATES, format!("with options {options}: {what}")));
    let mut subject = match Subject::new(&maker) {
        Ok(subject) => subject,
        Err(error) if error.message.contains("panicked") || error.message.contains("descriptor") => {
            return bad(error.to_string());
        }
        Err(_) => return None,
    };
    // With other options the device may understand other phrases.
    let ops = script::steps(subject.desc(), &Phrases::default(), session.job.seed, STEPS, Reach::Everything);
    let breach = ops.iter().find_map(|op| subject.apply(op).breach);
    match breach {
        Some(Breach::Panic(text)) => bad(format!("panicked: {text}")),
        Some(_) | None => None,
    }
}
