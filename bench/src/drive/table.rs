//! Tables for people, and the same as JSON for programs.
//!
//! Must not live here: figures. Invariant: every cell is the middle of its runs with lowest and highest, and a ratio is
//! worked out run by run before its middle is taken.

use std::collections::BTreeMap;

use bench::result::Outcome;
use bench::stats::Spread;
use serde::Serialize;

use super::figures::{columns, footnote, is_load_bound};
use super::servers::OURS;
use super::workloads::Telling;

/// One run of one server.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Run {
    /// Which run of the sitting: those of one number stood beside each other.
    pub(crate) run: usize,
    /// Its figures.
    pub(crate) figures: BTreeMap<&'static str, f64>,
    /// Everything the load found; none of a program without a load.
    pub(crate) outcome: Option<Outcome>,
}

/// All runs of one server in one phase.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Row {
    /// Each run.
    pub(crate) runs: Vec<Run>,
    /// Why a run is missing.
    pub(crate) failures: Vec<String>,
}

/// One phase of one scene.
#[derive(Clone, Debug)]
pub(crate) struct Sheet {
    /// The workload's name.
    pub(crate) workload: String,
    /// What was done.
    pub(crate) title: String,
    /// What is told of it.
    pub(crate) telling: Telling,
    /// Where it stands in a plot.
    pub(crate) x: Option<f64>,
    /// A server that cannot hold it is no failure.
    pub(crate) may_break: bool,
    /// By server, in the order they are shown.
    pub(crate) rows: Vec<(String, Row)>,
}

impl Sheet {
    fn row(&self, name: &str) -> Option<&Row> {
        self.rows.iter().find(|(found, _)| found == name).map(|(_, row)| row)
    }

    /// One figure of one server over its runs.
    pub(crate) fn spread(&self, name: &str, key: &str) -> Option<Spread> {
        Spread::of(self.row(name)?.runs.iter().filter_map(|run| run.figures.get(key).copied()))
    }

    /// Ours over another's, run by run.
    pub(crate) fn ratio(&self, name: &str, key: &str) -> Option<Spread> {
        let (ours, other) = (self.row(OURS)?, self.row(name)?);
        Spread::of(other.runs.iter().filter_map(|other| {
            let ours = ours.runs.iter().find(|ours| ours.run == other.run)?;
            Some(ours.figures.get(key)? / other.figures.get(key)?)
        }))
    }

    /// Whether any server has anything to tell.
    pub(crate) fn has_news(&self) -> bool {
        self.rows.iter().any(|(_, row)| !row.runs.is_empty() || !row.failures.is_empty())
    }

    /// Lays it out for people.
    pub(crate) fn text(&self) -> String {
        let columns = columns(self.telling);
        let compared: Vec<_> = columns.iter().filter(|column| column.is_compared).collect();
        let mut table = vec![vec![String::new()]];
        table[0].extend(columns.iter().map(|column| column.heading.to_owned()));
        table[0].extend(compared.iter().map(|column| format!("ours/its {}", column.heading)));
        // A server that broke before has nothing to tell here.
        let told = |row: &Row| !self.may_break || !row.runs.is_empty();
        for (name, _) in self.rows.iter().filter(|(_, row)| told(row)) {
            let mut line = vec![name.clone()];
            line.extend(columns.iter().map(|column| cell(self.spread(name, column.key), column.digits)));
            let others = |key| if name == OURS { None } else { self.ratio(name, key) };
            line.extend(compared.iter().map(|column| cell(others(column.key), 2)));
            table.push(line);
        }
        let mut text = format!("{}: {}{}\n", self.workload, self.title, self.telling.suffix());
        text.push_str(&laid_out(&table));
        for (name, row) in &self.rows {
            for failure in &row.failures {
                text.push_str(&format!("  {name}: {failure}\n"));
            }
            let bound = row.runs.iter().filter(|run| run.outcome.as_ref().is_some_and(is_load_bound)).count();
            if bound > 0 {
                let runs = row.runs.len();
                text.push_str(&format!(
                    "  {name}: in {bound} of {runs} runs the load was late or busy, and the limit\n"
                ));
            }
        }
        if let Some(note) = footnote(self.telling) {
            text.push_str(&format!("  {note}\n"));
        }
        text
    }

    /// The same for programs.
    pub(crate) fn json(&self) -> serde_json::Value {
        let rows: serde_json::Map<_, _> = self
            .rows
            .iter()
            .map(|(name, row)| {
                let figures: BTreeMap<_, _> = columns(self.telling)
                    .iter()
                    .filter_map(|column| Some((column.key, self.spread(name, column.key)?)))
                    .collect();
                let ratios: BTreeMap<_, _> = columns(self.telling)
                    .iter()
                    .filter(|column| column.is_compared && name != OURS)
                    .filter_map(|column| Some((column.key, self.ratio(name, column.key)?)))
                    .collect();
                let value = serde_json::json!({
                    "figures": figures, "ours_over_this": ratios, "runs": row.runs, "failures": row.failures,
                });
                (name.clone(), value)
            })
            .collect();
        serde_json::json!({
            "workload": self.workload, "title": self.title, "x": self.x, "of": format!("{:?}", self.telling), "servers": rows,
        })
    }
}

fn cell(spread: Option<Spread>, digits: usize) -> String {
    match spread {
        None => "–".into(),
        Some(Spread { median, runs: 1, .. }) => format!("{median:.digits$}"),
        Some(Spread { median, lowest, highest, .. }) => {
            format!("{median:.digits$} ({lowest:.digits$}–{highest:.digits$})")
        }
    }
}

fn laid_out(table: &[Vec<String>]) -> String {
    let width = |place: usize| {
        table.iter().filter_map(|line| line.get(place)).map(|text| text.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<_> = (0..table.iter().map(Vec::len).max().unwrap_or(0)).map(width).collect();
    let mut text = String::new();
    for line in table {
        let mut shown = String::from(" ");
        for (place, (part, width)) in line.iter().zip(&widths).enumerate() {
            let fill = " ".repeat(width - part.chars().count());
            let part = if place == 0 { format!(" {part}{fill}") } else { format!("  {fill}{part}") };
            shown.push_str(&part);
        }
        text.push_str(shown.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(figures: &[(usize, f64)]) -> Row {
        let run = |&(run, cpu)| Run { run, figures: [("cpu_us_per_delivery", cpu)].into(), outcome: None };
        Row { runs: figures.iter().map(run).collect(), failures: Vec::new() }
    }

    fn sheet() -> Sheet {
        Sheet {
            workload: "fanout".into(),
            title: "one by one".into(),
            telling: Telling::Delivery,
            x: None,
            may_break: false,
            rows: vec![
                (OURS.into(), row(&[(0, 4.0), (1, 6.0), (2, 8.0)])),
                ("floor".into(), row(&[(0, 2.0), (1, 2.0), (2, 8.0)])),
                ("gone".into(), Row { runs: Vec::new(), failures: vec!["it ended".into()] }),
            ],
        }
    }

    #[test]
    fn a_ratio_is_taken_within_each_run() {
        let ratio = sheet().ratio("floor", "cpu_us_per_delivery").unwrap();
        // 2, 3 and 1; the middles alone would say 3.
        assert_eq!((ratio.median, ratio.lowest, ratio.highest), (2.0, 1.0, 3.0));
        assert_eq!(sheet().ratio("gone", "cpu_us_per_delivery"), None);
    }

    #[test]
    fn a_table_tells_the_middle_the_ends_and_what_is_missing() {
        let text = sheet().text();
        assert!(text.contains("6.00 (4.00–8.00)"), "{text}");
        assert!(text.contains("2.00 (1.00–3.00)"), "{text}");
        assert!(text.contains("gone: it ended"), "{text}");
        assert!(!text.contains("the load was late"), "{text}");
        let mut late = sheet();
        let lateness_us = bench::stats::Percentiles { p99: 1_000_000, ..Default::default() };
        late.rows[0].1.runs[1].outcome = Some(Outcome { lateness_us, ..Outcome::default() });
        assert!(late.text().contains("holdfast: in 1 of 3 runs the load was late"), "{}", late.text());
        let json = sheet().json();
        assert_eq!(json["servers"]["floor"]["ours_over_this"]["cpu_us_per_delivery"]["median"], 2.0);
    }
}
