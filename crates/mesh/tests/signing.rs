//! Signing texts against `spec/vectors/mesh/signing.json`, and JSON as JavaScript prints it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use clawchat_mesh::{JsonError, MAX_JSON_BYTES, MAX_JSON_DEPTH, SigningTextError, reprint, signing_text};
use proptest::prelude::*;
use serde_json::Value;

fn cases() -> Vec<Value> {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../spec/vectors/mesh/signing.json"
    );
    // The file quotes lone surrogates only within texts of JSON, so it is itself plain JSON.
    let file: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    file["cases"].as_array().unwrap().clone()
}

#[test]
fn every_signing_text_is_the_reference_s() {
    let mut counted = [0, 0];
    for case in cases() {
        let place = match case["kind"].as_str().unwrap() {
            "sign" => 0,
            "receive" => 1,
            _ => continue,
        };
        counted[place] += 1;
        let text = signing_text(case["wire"].as_str().unwrap());
        assert_eq!(
            text.as_deref(),
            Ok(case["canonical"].as_str().unwrap()),
            "{}",
            case["id"]
        );
        if let (Some(payload), Some(printed)) = (
            case["input_payload_text"].as_str(),
            case["message"]["payload"].as_str(),
        ) {
            assert_eq!(reprint(payload).as_deref(), Ok(printed), "{}", case["id"]);
        }
    }
    assert!(counted[0] > 30 && counted[1] > 15, "{counted:?}");
}

#[test]
fn numbers_are_printed_as_javascript_prints_them() {
    for (text, printed) in [
        ("0", "0"),
        ("-0", "0"),
        ("-0.0e5", "0"),
        ("1.50", "1.5"),
        ("-12.5", "-12.5"),
        ("100", "100"),
        ("123456789012345678901", "123456789012345680000"),
        ("1e20", "100000000000000000000"),
        ("1e21", "1e+21"),
        ("123456e17", "1.23456e+22"),
        ("0.000001", "0.000001"),
        ("0.00000123", "0.00000123"),
        ("0.0000001", "1e-7"),
        ("-1.25e-9", "-1.25e-9"),
        ("5e-324", "5e-324"),
        ("1e-400", "0"),
        ("1.7976931348623157e308", "1.7976931348623157e+308"),
        ("1e400", "null"),
        ("-1e400", "null"),
        ("9007199254740993", "9007199254740992"),
        ("0.1", "0.1"),
        ("0.30000000000000004", "0.30000000000000004"),
        ("4.35", "4.35"),
        ("2e-5", "0.00002"),
    ] {
        assert_eq!(reprint(text).as_deref(), Ok(printed), "{text}");
    }
}

#[test]
fn keys_are_ordered_as_javascript_orders_them() {
    for (text, printed) in [
        (
            r#"{"b":1,"2":2,"a":3,"10":4,"1":5}"#,
            r#"{"1":5,"2":2,"10":4,"b":1,"a":3}"#,
        ),
        (
            r#"{"01":1,"0":2,"-1":3,"+1":4}"#,
            r#"{"0":2,"01":1,"-1":3,"+1":4}"#,
        ),
        (
            r#"{"4294967295":1,"4294967294":2}"#,
            r#"{"4294967294":2,"4294967295":1}"#,
        ),
        (r#"{"a":1,"4294967296":2,"":3}"#, r#"{"a":1,"4294967296":2,"":3}"#),
        (r#"{"a":1,"b":2,"\u0061":3}"#, r#"{"a":3,"b":2}"#),
        (
            r#"{"\ud800":1,"\\ud800":2,"\uD800":3}"#,
            r#"{"\ud800":3,"\\ud800":2}"#,
        ),
        (r#"{"a":{"2":0,"1":0},"a":[ ]}"#, r#"{"a":[]}"#),
    ] {
        assert_eq!(reprint(text).as_deref(), Ok(printed), "{text}");
    }
}

#[test]
fn strings_are_printed_as_javascript_prints_them() {
    for (text, printed) in [
        (
            r#""\u0000\u001F\b\f\n\r\t\"\\\/\u007f""#,
            "\"\\u0000\\u001f\\b\\f\\n\\r\\t\\\"\\\\/\u{7f}\"",
        ),
        (r#""\ud83d\ude00""#, "\"😀\""),
        (r#""\ude00\ud83d""#, r#""\ude00\ud83d""#),
        (r#""\ud83d\u0041""#, r#""\ud83dA""#),
        (r#""\ud83d\ud83d\ude00""#, "\"\\ud83d😀\""),
        ("\"\\ud83dé\"", "\"\\ud83dé\""),
        ("\"\u{2028}\u{2029}\"", "\"\u{2028}\u{2029}\""),
    ] {
        assert_eq!(reprint(text).as_deref(), Ok(printed), "{text}");
    }
}

#[test]
fn what_is_not_json_is_refused() {
    for text in [
        "",
        " ",
        "nul",
        "nulll",
        "True",
        "01",
        "-",
        "+1",
        "1.",
        ".5",
        "1e",
        "1e+",
        "0x1",
        "NaN",
        "[",
        "[1",
        "[1,]",
        "[,]",
        "]",
        "{",
        "{}}",
        "{a:1}",
        "{\"a\"}",
        "{\"a\":}",
        "{\"a\":1,}",
        "\"",
        "\"\\",
        "\"\\x\"",
        "\"\\u12\"",
        "\"\\u+123\"",
        "\"\\u12é\"",
        "\"\n\"",
        "'a'",
        "1 2",
        "\u{feff}1",
        "\u{a0}1",
        "--1",
        "1e5.5",
    ] {
        assert!(matches!(reprint(text), Err(JsonError::Syntax { .. })), "{text:?}");
    }
}

#[test]
fn size_and_depth_are_bounded() {
    let nested = |levels: usize| "[".repeat(levels) + &"]".repeat(levels);
    let most = usize::try_from(MAX_JSON_DEPTH).unwrap();
    assert_eq!(reprint(&nested(most)), Ok(nested(most)));
    assert_eq!(reprint(&nested(most + 1)), Err(JsonError::TooDeep));
    assert_eq!(reprint(&"{\"a\":".repeat(100_000)), Err(JsonError::TooDeep));
    assert!(reprint(&" ".repeat(MAX_JSON_BYTES - 1).replacen(' ', "1", 1)).is_ok());
    assert_eq!(reprint(&" ".repeat(MAX_JSON_BYTES + 1)), Err(JsonError::TooLong));
}

#[test]
fn every_field_but_the_payload_must_be_there() {
    let message = r#"{"body":"b","channel_id":"c","message_id":"m","sender_id":"s","timestamp":"t"}"#;
    assert_eq!(
        signing_text(message).as_deref(),
        Ok(
            r#"{"body":"b","channel_id":"c","message_id":"m","payload":null,"sender_id":"s","timestamp":"t"}"#
        )
    );
    for field in ["body", "channel_id", "message_id", "sender_id", "timestamp"] {
        let without = message.replace(&format!("\"{field}\""), "\"x\"");
        assert_eq!(signing_text(&without), Err(SigningTextError::Missing { field }));
    }
    for text in ["[]", "null", "\"text\"", "1", ""] {
        assert!(
            matches!(signing_text(text), Err(SigningTextError::Json(_))),
            "{text}"
        );
    }
}

proptest! {
    #[test]
    fn arbitrary_text_never_panics_and_what_is_printed_is_stable(text in ".{0,60}", json in r#"[\[\]{}",:0-9a-fu.e+\-\\ ]{0,60}"#) {
        for text in [text, json] {
            let _ = signing_text(&text);
            if let Ok(printed) = reprint(&text) {
                prop_assert_eq!(reprint(&printed), Ok(printed.clone()));
            }
        }
    }

    #[test]
    fn json_is_what_others_call_json(text in r#"[\[\]{}",:0-9a-f.e+\-\\ ]{0,40}"#) {
        // Without escapes of surrogates, and with numbers in range, the two agree on what is JSON at all.
        let theirs = serde_json::from_str::<serde::de::IgnoredAny>(&text).is_ok();
        prop_assert_eq!(reprint(&text).is_ok(), theirs, "{}", text);
    }

    #[test]
    fn printed_numbers_read_back_as_the_same(number in any::<f64>()) {
        if number.is_finite() {
            let printed = reprint(&format!("{number:e}")).unwrap();
            prop_assert_eq!(printed.parse::<f64>().unwrap(), number);
        }
    }

    #[test]
    fn strings_without_surrogates_are_printed_as_others_print_them(text in ".{0,40}") {
        let quoted = serde_json::to_string(&text).unwrap();
        prop_assert_eq!(reprint(&quoted), Ok(quoted.clone()));
    }
}
