//! What came out of a run: lines on the terminal, JUnit XML, JSON.

use crate::case::Case;
use anyhow::Context as _;
use serde_json::json;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::time::Duration;

/// How a case ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    Passed,
    Failed(String),
    Skipped(String),
}

/// One case's outcome.
#[derive(Debug, Clone)]
pub(crate) struct Report {
    pub(crate) suite: &'static str,
    pub(crate) name: &'static str,
    pub(crate) outcome: Outcome,
    pub(crate) took: Duration,
}

impl Report {
    pub(crate) fn new(case: &Case, outcome: Outcome) -> Self {
        Self {
            suite: case.suite,
            name: case.name,
            outcome,
            took: Duration::ZERO,
        }
    }

    pub(crate) fn print(&self) {
        let (word, text) = match &self.outcome {
            Outcome::Passed => ("passed ", ""),
            Outcome::Failed(text) => ("FAILED ", text.as_str()),
            Outcome::Skipped(text) => ("skipped", text.as_str()),
        };
        let (suite, name, took) = (self.suite, self.name, self.took.as_secs_f64());
        let mut line = format!("{word} {suite}/{name} ({took:.1} s)");
        for part in text.lines() {
            _ = write!(line, "\n        {part}");
        }
        println!("{line}");
    }
}

/// Prints the closing line; true if nothing failed.
pub(crate) fn print_closing(reports: &[Report]) -> bool {
    let (passed, failed, skipped) = counts(reports);
    let failures: Vec<&Report> = reports
        .iter()
        .filter(|report| matches!(report.outcome, Outcome::Failed(_)))
        .collect();
    if !failures.is_empty() {
        println!("\nfailed:");
        for report in failures {
            println!("  {}/{}", report.suite, report.name);
        }
    }
    println!("\n{passed} passed, {failed} failed, {skipped} skipped");
    failed == 0
}

fn counts(reports: &[Report]) -> (usize, usize, usize) {
    let mut counts = (0, 0, 0);
    for report in reports {
        match report.outcome {
            Outcome::Passed => counts.0 += 1,
            Outcome::Failed(_) => counts.1 += 1,
            Outcome::Skipped(_) => counts.2 += 1,
        }
    }
    counts
}

pub(crate) fn write_json(file: &Path, reports: &[Report]) -> anyhow::Result<()> {
    let (passed, failed, skipped) = counts(reports);
    let cases: Vec<_> = reports
        .iter()
        .map(|report| {
            let (outcome, text) = match &report.outcome {
                Outcome::Passed => ("passed", None),
                Outcome::Failed(text) => ("failed", Some(text)),
                Outcome::Skipped(text) => ("skipped", Some(text)),
            };
            json!({
                "suite": report.suite, "name": report.name, "outcome": outcome, "text": text,
                "seconds": report.took.as_secs_f64(),
            })
        })
        .collect();
    let all = json!({"passed": passed, "failed": failed, "skipped": skipped, "cases": cases});
    fs::write(file, format!("{all:#}\n")).with_context(|| format!("write {}", file.display()))
}

pub(crate) fn write_junit(file: &Path, reports: &[Report]) -> anyhow::Result<()> {
    fs::write(file, junit(reports)).with_context(|| format!("write {}", file.display()))
}

fn junit(reports: &[Report]) -> String {
    let mut suites: Vec<&str> = reports.iter().map(|report| report.suite).collect();
    suites.sort_unstable();
    suites.dedup();
    let mut xml = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n");
    for suite in suites {
        let cases: Vec<Report> = reports
            .iter()
            .filter(|report| report.suite == suite)
            .cloned()
            .collect();
        let (passed, failed, skipped) = counts(&cases);
        let tests = passed + failed + skipped;
        _ = writeln!(
            xml,
            "  <testsuite name=\"{suite}\" tests=\"{tests}\" failures=\"{failed}\" skipped=\"{skipped}\">"
        );
        for case in &cases {
            let (name, took) = (escape(case.name), case.took.as_secs_f64());
            _ = write!(
                xml,
                "    <testcase classname=\"{suite}\" name=\"{name}\" time=\"{took:.3}\""
            );
            match &case.outcome {
                Outcome::Passed => xml.push_str("/>\n"),
                Outcome::Failed(text) => {
                    _ = writeln!(xml, "><failure>{}</failure></testcase>", escape(text));
                }
                Outcome::Skipped(text) => {
                    _ = writeln!(xml, "><skipped message=\"{}\"/></testcase>", escape(text));
                }
            }
        }
        xml.push_str("  </testsuite>\n");
    }
    xml.push_str("</testsuites>\n");
    xml
}

/// Text as XML allows it: markup escaped, control characters replaced.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\n' | '\t' => escaped.push(c),
            c if c.is_control() || c == '\u{fffe}' || c == '\u{ffff}' => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(outcome: Outcome) -> Report {
        Report {
            suite: "amqp",
            name: "case",
            outcome,
            took: Duration::from_millis(1500),
        }
    }

    #[test]
    fn junit_counts_and_escapes() {
        let xml = junit(&[
            report(Outcome::Passed),
            report(Outcome::Failed("1 < 2 & \u{1}".into())),
            report(Outcome::Skipped("no \"kcat\"".into())),
        ]);
        assert!(xml.contains("tests=\"3\" failures=\"1\" skipped=\"1\""));
        assert!(xml.contains("<failure>1 &lt; 2 &amp; \u{fffd}</failure>"));
        assert!(xml.contains("message=\"no &quot;kcat&quot;\""));
        assert!(xml.contains("time=\"1.500\"/>"));
    }
}
