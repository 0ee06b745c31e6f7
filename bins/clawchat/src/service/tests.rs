//! The units as they are written, word for word.

use super::*;

fn facts() -> Facts {
    Facts {
        name: "clawchatd".to_owned(),
        program: "/usr/local/bin/clawchatd".to_owned(),
        home: "/home/me/.clawchat".to_owned(),
        password_file: Some("/home/me/my secrets/50% <of> \"it\" -- $HOME".to_owned()),
        search_path: "/usr/local/bin:/usr/bin:/bin".to_owned(),
    }
}

#[test]
fn the_systemd_unit_is_as_written_down() {
    let text = Platform::Systemd.unit_text(&facts()).unwrap();
    golden("clawchatd.service", &text);
}

#[test]
fn the_launchd_agent_is_as_written_down() {
    let text = Platform::Launchd.unit_text(&facts()).unwrap();
    golden("io.github.clawchat.clawchatd.plist", &text);
    assert!(plist::Value::from_reader_xml(text.as_bytes()).is_ok());
}

#[test]
fn a_unit_tells_what_it_was_written_from() {
    for platform in [Platform::Systemd, Platform::Launchd] {
        for facts in [
            facts(),
            Facts {
                password_file: None,
                home: "/-->/--/---{}\\".to_owned(),
                ..facts()
            },
        ] {
            let text = platform.unit_text(&facts).unwrap();
            assert_eq!(Facts::of_unit(&text), Some(facts));
        }
    }
    for foreign in [
        "",
        "[Unit]\n",
        "# clawchat service: {}\n",
        "# clawchat service: }{\n",
    ] {
        assert_eq!(Facts::of_unit(foreign), None, "{foreign:?}");
    }
}

#[test]
fn systemd_is_not_given_a_program_it_refuses() {
    for program in ["/a\"b/clawchatd", "/it's/clawchatd", "/a\\b/clawchatd"] {
        let facts = Facts {
            program: program.to_owned(),
            ..facts()
        };
        assert!(Platform::Systemd.unit_text(&facts).is_err(), "{program}");
        assert!(Platform::Launchd.unit_text(&facts).is_ok(), "{program}");
    }
}

/// Compares with a file in `tests/units`. With `UPDATE_GOLDEN` set, that file is written anew instead.
#[track_caller]
fn golden(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/units")
        .join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
    }
    let expected = fs::read_to_string(&path).unwrap();
    assert!(text == expected, "{} differs from\n{text}", path.display());
}
