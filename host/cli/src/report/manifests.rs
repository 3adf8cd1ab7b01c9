//! What two recordings say of their machines, side by side.

use serde_json::Value;
use std::collections::BTreeMap;

/// Names of the things that the manifest lists.
const KEYS: [&str; 4] = ["id", "name", "device", "port"];

/// What is of one recording only, and says nothing about the machine.
const OWN: [&str; 4] = ["run_id", "created_unix_s", "end", "parent"];

/// Likewise: when it was taken is in the snapshot's file. Two that differ are found by the first digest behind them.
const OWN_START: &str = "start.blake3";

/// What may differ between two runs of one machine.
const CIRCUMSTANCES: [&str; 3] = ["reprise", "digest_every", "console"];

/// Something that two manifests do not have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ManifestDifference {
    /// `images.kernel.blake3`, `plugins.ns16550a.blake3`, `board.machine.ram`.
    pub(crate) what: String,
    /// What the first one says; `None`: nothing.
    pub(crate) a: Option<String>,
    pub(crate) b: Option<String>,
    /// Machines with this difference are not the same.
    pub(crate) of_machine: bool,
}

/// Compare two manifests, each with its board read in place of the text.
pub(crate) fn differences(a: &Value, b: &Value) -> Vec<ManifestDifference> {
    let (mut left, mut right) = (BTreeMap::new(), BTreeMap::new());
    flatten(String::new(), a, &mut left);
    flatten(String::new(), b, &mut right);
    let names: std::collections::BTreeSet<&String> = left.keys().chain(right.keys()).collect();
    let differing = names.into_iter().filter(|name| left.get(*name) != right.get(*name));
    let kept = differing.filter(|name| !is_under(name, &OWN) && *name != OWN_START && !is_place(name));
    kept.map(|name| ManifestDifference {
        what: name.clone(),
        a: left.get(name).cloned(),
        b: right.get(name).cloned(),
        of_machine: !is_under(name, &CIRCUMSTANCES),
    })
    .collect()
}

fn is_under(name: &str, roots: &[&str]) -> bool {
    let root = name.split('.').next().unwrap_or(name);
    roots.contains(&root)
}

/// What a file was called, or where it was: its hash counts.
fn is_place(name: &str) -> bool {
    let part = |prefix: &str, suffix: &str| name.starts_with(prefix) && name.ends_with(suffix);
    part("images.", ".name") || part("disks.", ".file")
}

fn flatten(path: String, value: &Value, into: &mut BTreeMap<String, String>) {
    let under = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    match value {
        Value::Object(fields) => fields.iter().for_each(|(name, field)| flatten(under(name), field, into)),
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                flatten(under(&name_of(item).unwrap_or_else(|| index.to_string())), item, into);
            }
        }
        Value::String(text) => drop(into.insert(path, text.clone())),
        Value::Null => (),
        Value::Bool(_) | Value::Number(_) => drop(into.insert(path, value.to_string())),
    }
}

/// What an item of a list is called, if it is called anything.
fn name_of(item: &Value) -> Option<String> {
    let names: Vec<&str> = KEYS.iter().filter_map(|key| item.get(key)?.as_str()).collect();
    (!names.is_empty()).then(|| names.join("."))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn manifest() -> Value {
        json!({
            "run_id": "1", "reprise": "1.0", "digest_every": 5,
            "board": { "machine": { "ram": "1G" }, "device": { "uart0": { "irq": 10 } } },
            "images": { "kernel": { "name": "Image", "blake3": "aa" } },
            "plugins": [{ "name": "ns16550a", "blake3": "11" }, { "name": "plic", "blake3": "22" }],
            "disks": [{ "device": "disk0", "port": "blk", "file": "/x", "size_bytes": 512 }],
        })
    }

    #[test]
    fn a_recording_is_like_itself_made_elsewhere() {
        let mut other = manifest();
        other["run_id"] = json!("2");
        other["images"]["kernel"]["name"] = json!("Image-6.1");
        other["disks"][0]["file"] = json!("/y");
        assert_eq!(differences(&manifest(), &other), []);
    }

    #[test]
    fn differences_have_names() {
        let mut other = manifest();
        other["plugins"][1]["blake3"] = json!("33");
        other["plugins"].as_array_mut().unwrap().remove(0);
        other["board"]["machine"]["ram"] = json!("2G");
        other["digest_every"] = Value::Null;
        let found = differences(&manifest(), &other);
        let told: Vec<(&str, Option<&str>, Option<&str>, bool)> =
            found.iter().map(|d| (d.what.as_str(), d.a.as_deref(), d.b.as_deref(), d.of_machine)).collect();
        assert_eq!(
            told,
            [
                ("board.machine.ram", Some("1G"), Some("2G"), true),
                ("digest_every", Some("5"), None, false),
                ("plugins.ns16550a.blake3", Some("11"), None, true),
                ("plugins.ns16550a.name", Some("ns16550a"), None, true),
                ("plugins.plic.blake3", Some("22"), Some("33"), true),
            ]
        );
    }
}
