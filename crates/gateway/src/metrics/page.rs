//! Metrics as they are shown: Prometheus text, or JSON.

use std::fmt::Write as _;

use serde_json::{Value, json};

/// Metrics in the order in which they were put in.
#[derive(Debug, Default)]
pub(crate) struct Page {
    families: Vec<Family>,
}

/// One metric with its values.
#[derive(Debug)]
struct Family {
    name: &'static str,
    kind: Kind,
    help: &'static str,
    samples: Vec<(Option<Label>, u64)>,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    /// Only grows while the daemon runs.
    Counter,
    /// Goes up and down.
    Gauge,
}

/// A name and one of a few words; never anything that came from a peer.
type Label = (&'static str, &'static str);

impl Page {
    /// Events since the start.
    pub(super) fn counter(&mut self, name: &'static str, help: &'static str, value: u64) {
        self.put(name, Kind::Counter, help, vec![(None, value)]);
    }

    /// The same, told apart by a label.
    pub(super) fn counters<const N: usize>(
        &mut self,
        name: &'static str,
        help: &'static str,
        label: &'static str,
        values: [(&'static str, u64); N],
    ) {
        self.put(name, Kind::Counter, help, labelled(label, values));
    }

    /// How many there are.
    pub(super) fn gauge(&mut self, name: &'static str, help: &'static str, value: u64) {
        self.put(name, Kind::Gauge, help, vec![(None, value)]);
    }

    /// The same, told apart by a label.
    pub(super) fn gauges<const N: usize>(
        &mut self,
        name: &'static str,
        help: &'static str,
        label: &'static str,
        values: [(&'static str, u64); N],
    ) {
        self.put(name, Kind::Gauge, help, labelled(label, values));
    }

    fn put(
        &mut self,
        name: &'static str,
        kind: Kind,
        help: &'static str,
        samples: Vec<(Option<Label>, u64)>,
    ) {
        self.families.push(Family {
            name,
            kind,
            help,
            samples,
        });
    }

    /// The text exposition format of Prometheus, version 0.0.4.
    pub(crate) fn to_text(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        for Family {
            name,
            kind,
            help,
            samples,
        } in &self.families
        {
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {}", kind.name());
            for (label, value) in samples {
                let _ = match label {
                    Some((label, word)) => writeln!(text, "{name}{{{label}=\"{word}\"}} {value}"),
                    None => writeln!(text, "{name} {value}"),
                };
            }
        }
        text
    }

    /// `[{"name","type","help","samples":[{"labels"?,"value"}]}]`.
    pub(crate) fn to_json(&self) -> Value {
        let sample = |(label, value): &(Option<Label>, u64)| match label {
            Some((label, word)) => json!({ "labels": { *label: word }, "value": value }),
            None => json!({ "value": value }),
        };
        let families = self.families.iter().map(|family| {
            json!({
                "name": family.name,
                "type": family.kind.name(),
                "help": family.help,
                "samples": family.samples.iter().map(sample).collect::<Vec<_>>(),
            })
        });
        families.collect()
    }
}

fn labelled<const N: usize>(
    label: &'static str,
    values: [(&'static str, u64); N],
) -> Vec<(Option<Label>, u64)> {
    values
        .into_iter()
        .map(|(word, value)| (Some((label, word)), value))
        .collect()
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_shown_the_way_prometheus_reads_them() {
        let mut page = Page::default();
        page.counters("a_total", "How many.", "kind", [("x", 1), ("y", 2)]);
        page.gauge("b", "Now.", 7);
        assert_eq!(
            page.to_text(),
            "# HELP a_total How many.\n# TYPE a_total counter\na_total{kind=\"x\"} 1\na_total{kind=\"y\"} 2\n\
             # HELP b Now.\n# TYPE b gauge\nb 7\n"
        );
        assert_eq!(
            page.to_json()[0]["samples"][1],
            json!({ "labels": { "kind": "y" }, "value": 2 })
        );
        assert_eq!(
            page.to_json()[1],
            json!({ "name": "b", "type": "gauge", "help": "Now.", "samples": [{ "value": 7 }] })
        );
    }
}
