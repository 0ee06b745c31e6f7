//! The marks of a specification's rules, such as **F1**, and whether its vectors show each of them.

use std::collections::{BTreeMap, BTreeSet};

/// What a rule without vectors says instead of a mark.
const NO_VECTOR: &str = "*No vector*";

/// What is wrong with a specification and the cases that show it: of each case the mark it names, and whether it is
/// a refused one.
///
/// Every MUST must stand in a rule with a mark of its own (or that says why it has none), and every mark must have an
/// accepted and a refused case.
pub(crate) fn gaps(specification: &str, cases: &[(String, bool)]) -> Vec<String> {
    let mut gaps = Vec::new();
    let mut marks = BTreeSet::new();
    for rule in rules(specification) {
        match mark(&rule) {
            Some(mark) if !marks.insert(mark.to_owned()) => gaps.push(format!("{mark} stands there twice")),
            Some(_) => {}
            None if rule.contains("MUST") && !rule.contains("RFC 2119") && !rule.contains(NO_VECTOR) => {
                gaps.push(format!("a MUST without a mark: {rule}"));
            }
            None => {}
        }
    }
    let mut shown: BTreeMap<&str, [bool; 2]> = BTreeMap::new();
    for (mark, refused) in cases {
        shown.entry(mark).or_default()[usize::from(*refused)] = true;
    }
    for mark in &marks {
        let [accepted, refused] = shown.remove(mark.as_str()).unwrap_or_default();
        for (there, kind) in [(accepted, "accepted"), (refused, "refused")] {
            if !there {
                gaps.push(format!("{mark} has no {kind} case"));
            }
        }
    }
    gaps.extend(
        shown
            .into_keys()
            .map(|mark| format!("no rule has the mark {mark}")),
    );
    gaps
}

/// Paragraphs and list items, each in one line.
fn rules(specification: &str) -> Vec<String> {
    let mut rules = vec![String::new()];
    for line in specification.lines().map(str::trim) {
        if line.is_empty() || line.starts_with('|') || line.starts_with('#') || item(line).is_some() {
            rules.push(String::new());
        }
        if let Some(rule) = rules.last_mut().filter(|_| !line.is_empty()) {
            rule.push_str(line);
            rule.push(' ');
        }
    }
    rules
}

/// The text of a list item.
fn item(line: &str) -> Option<&str> {
    let number = line.trim_start_matches(|digit: char| digit.is_ascii_digit());
    let numbered = || number.strip_prefix(". ").filter(|_| number.len() < line.len());
    line.strip_prefix("- ").or_else(numbered)
}

/// The mark a rule begins with: a letter and a number, in bold.
fn mark(rule: &str) -> Option<&str> {
    let (mark, _) = item(rule).unwrap_or(rule).strip_prefix("**")?.split_once("**")?;
    let number = mark.strip_prefix(|letter: char| letter.is_ascii_uppercase())?;
    (!number.is_empty() && number.bytes().all(|digit| digit.is_ascii_digit())).then_some(mark)
}

#[test]
fn gaps_are_found() {
    let specification = "MUST as in RFC 2119. A mark such as **Z9**.\n\n- **A1** This\n  MUST be so.\n- And this MUST.\n\
        2. **A2** *That* too.\n3. A MUST. *No vector*: why.\n**MSG** is no mark.\n\n**A2** Again.\n";
    let cases = |cases: &[(&str, bool)]| -> Vec<(String, bool)> {
        let owned = cases.iter().map(|(mark, refused)| ((*mark).to_owned(), *refused));
        owned.collect()
    };
    assert_eq!(
        gaps(
            specification,
            &cases(&[("A1", true), ("A1", false), ("A2", false), ("B1", true)])
        ),
        [
            "a MUST without a mark: - And this MUST. ",
            "A2 stands there twice",
            "A2 has no refused case",
            "no rule has the mark B1",
        ]
    );
    assert_eq!(
        gaps("- **A1** MUST.", &cases(&[("A1", true)])),
        ["A1 has no accepted case"]
    );
}
