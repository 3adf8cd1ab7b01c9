//! The report of a check: for people, for programs, and for CI.

use crate::{finding::Finding, rule::Rule};
use serde_json::{Value, json};
use std::fmt::Write as _;

/// How a test ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// Nothing was found.
    Passed,
    /// Something was.
    Failed,
    /// It cannot be done here; why.
    Skipped(String),
    /// It was not asked for, or is switched off.
    NotRun(String),
    /// A test before it has to pass first.
    Held(String),
}

/// One test of one device.
#[derive(Clone, Debug)]
pub struct TestReport {
    /// Its name, as in the settings.
    pub name: &'static str,
    /// What it is about.
    pub about: &'static str,
    /// How it ended.
    pub status: Status,
    /// What it found.
    pub findings: Vec<Finding>,
    /// How long it took.
    pub took_ms: u64,
}

impl TestReport {
    pub(crate) fn not_run(name: &'static str, about: &'static str, why: String) -> Self {
        let held = why.starts_with("test ");
        let status = if held { Status::Held(why) } else { Status::NotRun(why) };
        Self { name, about, status, findings: Vec::new(), took_ms: 0 }
    }

    fn word(&self) -> &'static str {
        match self.status {
            Status::Passed => "ok",
            Status::Failed => "FAILED",
            Status::Skipped(_) => "skipped",
            Status::NotRun(_) | Status::Held(_) => "not run",
        }
    }

    fn why(&self) -> Option<&str> {
        match &self.status {
            Status::Skipped(why) | Status::NotRun(why) | Status::Held(why) => Some(why),
            Status::Passed | Status::Failed => None,
        }
    }
}

/// All tests of one device.
#[derive(Clone, Debug)]
pub struct DeviceReport {
    /// Its kind.
    pub kind: String,
    /// Where its options are from.
    pub from: String,
    /// They, as JSON.
    pub options: String,
    /// The tests, in order.
    pub tests: Vec<TestReport>,
    /// The file of what it understands.
    pub phrases: Option<String>,
}

/// All tests of a plugin.
#[derive(Clone, Debug)]
pub struct Report {
    /// Its file.
    pub plugin: String,
    /// Whether it loads.
    pub load: TestReport,
    /// Its devices.
    pub devices: Vec<DeviceReport>,
    /// The first seed.
    pub seed: u64,
}

impl Report {
    /// Every test.
    fn tests(&self) -> impl Iterator<Item = &TestReport> {
        std::iter::once(&self.load).chain(self.devices.iter().flat_map(|device| &device.tests))
    }

    /// Everything found.
    pub fn findings(&self) -> impl Iterator<Item = &Finding> {
        self.tests().flat_map(|test| &test.findings)
    }

    /// For people.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut out = format!("{}\n", self.plugin);
        test_text(&mut out, &self.load, self.seed, None);
        for device in &self.devices {
            writeln!(out, "{}, {}: {}", device.kind, device.from, device.options).expect("a string");
            let phrases = device.phrases.as_deref();
            device.tests.iter().for_each(|test| test_text(&mut out, test, self.seed, phrases));
        }
        let found = self.findings().count();
        let (run, all) = (self.tests().filter(|test| test.why().is_none()).count(), self.tests().count());
        out += &match found {
            0 => format!("good: {run} of {all} tests run, nothing found\n"),
            1 => format!("1 finding; {run} of {all} tests run\n"),
            _ => format!("{found} findings; {run} of {all} tests run\n"),
        };
        out
    }

    /// For programs.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let device = |device: &DeviceReport| {
            let tests: Vec<Value> = device.tests.iter().map(test_json).collect();
            let options: Value = serde_json::from_str(&device.options).unwrap_or_default();
            json!({
                "kind": device.kind, "from": device.from, "options": options, "phrases": device.phrases, "tests": tests,
            })
        };
        let devices: Vec<Value> = self.devices.iter().map(device).collect();
        json!({
            "plugin": self.plugin,
            "good": self.findings().next().is_none(),
            "seed": self.seed,
            "load": test_json(&self.load),
            "devices": devices,
        })
    }

    /// For CI: JUnit's XML.
    #[must_use]
    pub fn to_junit(&self) -> String {
        let mut out = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n".to_owned();
        suite(&mut out, &self.plugin, std::slice::from_ref(&self.load));
        self.devices.iter().for_each(|device| suite(&mut out, &device.kind, &device.tests));
        out + "</testsuites>\n"
    }
}

fn test_text(out: &mut String, test: &TestReport, seed: u64, phrases: Option<&str>) {
    let phrases = phrases.map(|file| format!(" --phrases {file}")).unwrap_or_default();
    let TestReport { name, about, took_ms, .. } = test;
    let why = test.why().map(|why| format!(": {why}")).unwrap_or_default();
    writeln!(out, "  {:<7} {name:<10} {about} ({took_ms} ms){why}", test.word()).expect("a string");
    for finding in &test.findings {
        finding_text(out, finding);
        let seed = finding.seed.unwrap_or(seed);
        writeln!(out, "      again: --test {name} --seed {seed}{phrases}").expect("a string");
    }
}

fn finding_text(out: &mut String, finding: &Finding) {
    let Finding { rule, what, seed: _, step, op, field, expected, found } = finding;
    let text = Rule::named(rule).map(Rule::text);
    let title = text.map(|text| text.title).unwrap_or_default();
    let mut line = |label: &str, value: &str| writeln!(out, "    {label:<9} {value}").expect("a string");
    line(rule, title);
    line("what", what);
    match (step, op) {
        (Some(step), Some(op)) => line("step", &format!("{step}: {op}")),
        (Some(step), None) => line("step", &step.to_string()),
        (None, Some(op)) => line("while", op),
        (None, None) => {}
    }
    for (label, value) in [("differs", field), ("expected", expected), ("found", found)] {
        if let Some(value) = value {
            line(label, value);
        }
    }
    if let Some(text) = text {
        line("fix", text.fix);
    }
}

fn test_json(test: &TestReport) -> Value {
    let findings: Vec<Value> = test
        .findings
        .iter()
        .map(|finding| {
            let mut json = serde_json::to_value(finding).expect("plain data");
            if let (Some(text), Some(map)) =
                (Rule::named(&finding.rule).map(Rule::text), json.as_object_mut())
            {
                map.insert("title".to_owned(), json!(text.title));
                map.insert("fix".to_owned(), json!(text.fix));
            }
            json
        })
        .collect();
    json!({
        "name": test.name,
        "about": test.about,
        "status": test.word().to_lowercase(),
        "why": test.why(),
        "took_ms": test.took_ms,
        "findings": findings,
    })
}

fn suite(out: &mut String, name: &str, tests: &[TestReport]) {
    let failures = tests.iter().filter(|test| test.status == Status::Failed).count();
    let skipped = tests.iter().filter(|test| test.why().is_some()).count();
    writeln!(
        out,
        "  <testsuite name=\"{}\" tests=\"{}\" failures=\"{failures}\" skipped=\"{skipped}\">",
        escaped(name),
        tests.len()
    )
    .expect("a string");
    for test in tests {
        let seconds = test.took_ms as f64 / 1000.0;
        write!(
            out,
            "    <testcase classname=\"{}\" name=\"{}\" time=\"{seconds:.3}\">",
            escaped(name),
            test.name
        )
        .expect("a string");
        for finding in &test.findings {
            let mut text = String::new();
            finding_text(&mut text, finding);
            write!(
                out,
                "<failure type=\"{}\" message=\"{}\">{}</failure>",
                finding.rule,
                escaped(&finding.what),
                escaped(&text)
            )
            .expect("a string");
        }
        if let Some(why) = test.why() {
            write!(out, "<skipped message=\"{}\"/>", escaped(why)).expect("a string");
        }
        out.push_str("</testcase>\n");
    }
    out.push_str("  </testsuite>\n");
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out += "&amp;",
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '"' => out += "&quot;",
            '\n' | '\t' => out.push(c),
            // XML 1.0 has no other control characters and not all others, not even escaped.
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}
