//! How a name somebody chose is shown: so that it cannot pass for another by what the eye does not see.

use std::fmt::Write as _;

use unicode_normalization::UnicodeNormalization as _;

/// Most characters of a shown name, escapes not counted; what is longer is cut and ends with an ellipsis.
pub const MAX_SHOWN_CHARS: usize = 64;

/// A self-chosen name as it may be shown beside a principal: in Unicode normal form KC, where full-width letters,
/// ligatures and mathematical alphabets become the plain ones, and with escapes (`\u{200b}`) for every character that
/// has no shape of its own, moves or turns text, or is a Greek, Cyrillic, Armenian or Cherokee letter among Latin ones.
///
/// `None`: nothing would be left to see, or it would look like a principal.
#[must_use]
pub fn shown_name(name: &str) -> Option<String> {
    let name: Vec<char> = name.nfkc().take(MAX_SHOWN_CHARS + 1).collect();
    let mixed = name.iter().copied().any(is_latin) && name.iter().copied().any(is_lookalike);
    let mut shown = String::new();
    for c in name.iter().copied().take(MAX_SHOWN_CHARS) {
        if is_unseen(c) || (mixed && is_lookalike(c)) {
            // Writing to a String cannot fail.
            let _ = write!(shown, "\\u{{{:x}}}", u32::from(c));
        } else {
            shown.push(c);
        }
    }
    if name.len() > MAX_SHOWN_CHARS {
        shown.push('…');
    }
    let shown = shown.trim();
    let like_a_principal = shown
        .get(..PRINCIPAL_PREFIX.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(PRINCIPAL_PREFIX));
    (!shown.is_empty() && !like_a_principal).then(|| shown.to_owned())
}

/// What every principal begins with.
const PRINCIPAL_PREFIX: &str = "stacks:";

/// Characters without a shape of their own: controls, direction marks, joiners, fillers, selectors, tags, unassigned
/// ones of that kind, private ones, and every space but the plain one.
fn is_unseen(c: char) -> bool {
    if c.is_control() || (c.is_whitespace() && c != ' ') {
        return true;
    }
    matches!(c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
        | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{2800}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}'
        | '\u{ffa0}' | '\u{fff0}'..='\u{fffc}' | '\u{e000}'..='\u{f8ff}' | '\u{1bca0}'..='\u{1bca3}'
        | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{10ffff}')
}

fn is_latin(c: char) -> bool {
    c.is_ascii_alphabetic()
        || (c.is_alphabetic() && matches!(c, '\u{c0}'..='\u{24f}' | '\u{1e00}'..='\u{1eff}'))
}

/// Letters of the scripts that share shapes with Latin.
fn is_lookalike(c: char) -> bool {
    c.is_alphabetic()
        && matches!(c,
            '\u{370}'..='\u{3ff}' | '\u{1f00}'..='\u{1fff}' // Greek
            | '\u{400}'..='\u{52f}' | '\u{1c80}'..='\u{1c8f}' | '\u{a640}'..='\u{a69f}' // Cyrillic
            | '\u{530}'..='\u{58f}' // Armenian
            | '\u{13a0}'..='\u{13ff}' | '\u{ab70}'..='\u{abbf}') // Cherokee
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_of_any_script_are_shown_as_they_are() {
        for name in [
            "alice",
            "Zoë 🦀",
            "Ελένη",
            "Иван",
            "山田太郎",
            "أحمد",
            "O'Neil-Smith 2",
        ] {
            assert_eq!(shown_name(name).as_deref(), Some(name));
        }
    }

    #[test]
    fn lookalikes_are_not_shown_like_what_they_imitate() {
        // What somebody calls himself, and what is shown.
        let table = [
            // Another way to write the very same letters: the same name.
            ("ａｌｉｃｅ", "alice"),
            ("𝐚𝐥𝐢𝐜𝐞", "alice"),
            ("ⓐⓛⓘⓒⓔ", "alice"),
            ("ﬁona", "fiona"),
            ("Zoe\u{308}", "Zoë"),
            ("alice\u{a0}b", "alice b"),
            // Letters of another script among Latin ones.
            ("\u{430}lice", "\\u{430}lice"),
            ("p\u{430}yp\u{430}l", "p\\u{430}yp\\u{430}l"),
            ("\u{3b1}lice", "\\u{3b1}lice"),
            ("ali\u{441}e", "ali\\u{441}e"),
            ("B\u{13a2}b", "B\\u{13a2}b"),
            ("\u{585}mar", "\\u{585}mar"),
        ];
        for (name, shown) in table {
            assert_eq!(shown_name(name).as_deref(), Some(shown), "{name:?}");
        }
    }

    #[test]
    fn nothing_invisible_stays_invisible() {
        let unseen = [
            '\u{0}',
            '\u{7}',
            '\u{1b}',
            '\u{7f}',
            '\u{85}',
            '\u{ad}',
            '\u{34f}',
            '\u{61c}',
            '\u{115f}',
            '\u{180e}',
            '\u{200b}',
            '\u{200c}',
            '\u{200d}',
            '\u{200e}',
            '\u{200f}',
            '\u{2028}',
            '\u{2029}',
            '\u{202a}',
            '\u{202e}',
            '\u{2060}',
            '\u{2064}',
            '\u{2066}',
            '\u{2069}',
            '\u{206f}',
            '\u{2800}',
            '\u{fe0f}',
            '\u{feff}',
            '\u{fffb}',
            '\u{e000}',
            '\u{e0041}',
            '\u{e0100}',
            '\u{f0000}',
        ];
        for c in unseen {
            let shown = shown_name(&format!("al{c}ice")).unwrap();
            assert_eq!(shown, format!("al\\u{{{:x}}}ice", u32::from(c)), "{c:?}");
        }
        for filler in ["\u{3164}", "\u{ffa0}", "\u{1160}"] {
            assert_eq!(shown_name(filler).as_deref(), Some("\\u{1160}"));
        }
        assert_eq!(shown_name("  "), None);
        assert_eq!(
            shown_name("stacks:ST1PQHQKV0RJXZFY1DGX8MNSNYVE3VGZJSRTPGZGM"),
            None
        );
        assert_eq!(shown_name("\u{ff33}TACKS:ST1"), None);
    }

    #[test]
    fn one_character_that_stands_for_many_is_cut() {
        let shown = shown_name(&"\u{fdfa}".repeat(64)).unwrap();
        assert!(shown.chars().count() <= MAX_SHOWN_CHARS + 1 && shown.ends_with('…'));
    }

    proptest! {
        #[test]
        fn what_is_shown_holds_nothing_unseen(name in "\\PC{0,80}|.{0,80}") {
            if let Some(shown) = shown_name(&name) {
                prop_assert!(!shown.chars().any(is_unseen));
            }
        }
    }
}
