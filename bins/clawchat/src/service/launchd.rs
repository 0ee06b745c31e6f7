//! A launchd agent, and the user's launchd.

use std::fmt::Write as _;
use std::thread;
use std::time::{Duration, Instant};

use super::{Condition, Facts, Refusal, Unit, run};

/// What stands before a service's name in its label.
const LABEL_PREFIX: &str = "io.github.clawchat.";
/// How long an agent that is told to end may take. The daemon promises 5 s.
const END_LIMIT: Duration = Duration::from_secs(10);
/// How often it is looked whether it has.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What every agent says beside what it starts. 63 is 0077; a daemon that ended as told (0) stays down.
const SETTINGS: &str = "\
\t<key>RunAtLoad</key>
\t<true/>
\t<key>KeepAlive</key>
\t<dict>
\t\t<key>SuccessfulExit</key>
\t\t<false/>
\t</dict>
\t<key>ThrottleInterval</key>
\t<integer>10</integer>
\t<key>ExitTimeOut</key>
\t<integer>8</integer>
\t<key>Umask</key>
\t<integer>63</integer>
\t<key>SoftResourceLimits</key>
\t<dict>
\t\t<key>NumberOfFiles</key>
\t\t<integer>8192</integer>
\t</dict>
";

/// launchd's name of a service.
pub(super) fn label(name: &str) -> String {
    format!("{LABEL_PREFIX}{name}")
}

/// Where the daemon logs to.
pub(super) fn log_path(home: &str) -> String {
    format!("{}/daemon.log", home.trim_end_matches('/'))
}

/// The agent's property list.
pub(super) fn unit_text(facts: &Facts) -> String {
    let mut text = String::from(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
         <!DOCTYPE plist PUBLIC \"-//Apple//DTD PLIST 1.0//EN\" \"http://www.apple.com/DTDs/PropertyList-1.0.dtd\">\n\
         <!-- Written by `clawchat service install`. -->\n",
    );
    let _ = write!(
        text,
        "<!-- {} -->\n<plist version=\"1.0\">\n<dict>\n",
        facts.comment()
    );
    let mut entry = |key: &str, value: &str| {
        let _ = writeln!(text, "\t<key>{key}</key>\n\t<string>{}</string>", escaped(value));
    };
    entry("Label", &label(&facts.name));
    // What is of interest goes to stderr; stdout says only that it started and ended.
    entry("StandardErrorPath", &log_path(&facts.home));
    entry("StandardOutPath", "/dev/null");
    text.push_str("\t<key>ProgramArguments</key>\n\t<array>\n");
    for word in facts.command() {
        let _ = writeln!(text, "\t\t<string>{}</string>", escaped(word));
    }
    text.push_str("\t</array>\n");
    let _ = write!(
        text,
        "\t<key>EnvironmentVariables</key>\n\t<dict>\n\t\t<key>PATH</key>\n\t\t<string>{}</string>\n\t</dict>\n",
        escaped(&facts.search_path)
    );
    text.push_str(SETTINGS);
    text.push_str("</dict>\n</plist>\n");
    text
}

/// Loads the agent, in the place of an older one.
pub(super) fn enable(unit: &Unit, changed: bool) -> Result<(), Refusal> {
    let mut loaded = is_loaded(unit);
    if loaded && changed {
        disable(unit)?;
        loaded = false;
    }
    launchctl(&["enable", &target(unit)])?;
    if loaded {
        return launchctl(&["kickstart", &target(unit)]);
    }
    launchctl(&["bootstrap", &domain(), &unit.path.to_string_lossy()]).map_err(|refusal| Refusal {
        unreachable: true,
        ..refusal
    })
}

/// Unloads the agent, which ends it.
pub(super) fn disable(unit: &Unit) -> Result<(), Refusal> {
    if !is_loaded(unit) {
        return Ok(());
    }
    let told = launchctl(&["bootout", &target(unit)]);
    // It may answer before the process has ended, with or without an error that says so.
    let deadline = Instant::now() + END_LIMIT;
    while is_loaded(unit) {
        if Instant::now() >= deadline {
            return told.and(Err(Refusal {
                command: format!("launchctl bootout {}", target(unit)),
                reason: format!("the agent did not end within {} s", END_LIMIT.as_secs()),
                unreachable: false,
            }));
        }
        thread::sleep(LOOK_EVERY);
    }
    Ok(())
}

/// What launchd says. An agent that is loaded starts at login.
pub(super) fn condition(unit: &Unit) -> Condition {
    match run("launchctl", &["print", &target(unit)]) {
        Ok(said) => {
            let active = said.lines().any(|line| line.trim() == "state = running");
            Condition {
                enabled: Some(true),
                active: Some(active),
                failed: false,
            }
        }
        Err(refusal) if refusal.unreachable => Condition::default(),
        Err(_) => Condition {
            enabled: Some(false),
            active: Some(false),
            failed: false,
        },
    }
}

/// What a person types to load the agent.
pub(super) fn enabling_command(unit: &Unit) -> String {
    format!("launchctl bootstrap {} '{}'", domain(), unit.path.display())
}

/// The user's login session, where agents live.
fn domain() -> String {
    format!("gui/{}", rustix::process::getuid().as_raw())
}

fn target(unit: &Unit) -> String {
    format!("{}/{}", domain(), label(&unit.name))
}

fn is_loaded(unit: &Unit) -> bool {
    run("launchctl", &["print", &target(unit)]).is_ok()
}

fn launchctl(arguments: &[&str]) -> Result<(), Refusal> {
    run("launchctl", arguments).map(drop)
}

/// Text inside an XML element.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use plist::Value;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_property_list_reader_finds_every_path(
            program in "/\\PC{0,40}",
            home in "/[ &<>\"'%$!-]{0,40}",
            password in proptest::option::of("/\\PC{0,40}"),
        ) {
            let facts = Facts {
                name: "clawchatd".to_owned(),
                program,
                home,
                password_file: password,
                search_path: "/usr/bin:/a--b".to_owned(),
            };
            // XML has no way to say these two; paths with them are refused before.
            prop_assume!(!facts.command().iter().any(|word| word.contains(['\u{fffe}', '\u{ffff}'])));
            let text = unit_text(&facts);
            prop_assert_eq!(Facts::of_unit(&text), Some(facts.clone()));
            let agent = Value::from_reader_xml(text.as_bytes()).unwrap();
            let agent = agent.as_dictionary().unwrap();
            let words: Vec<&str> = agent["ProgramArguments"].as_array().unwrap().iter().filter_map(Value::as_string).collect();
            prop_assert_eq!(words, facts.command());
            let log = log_path(&facts.home);
            prop_assert_eq!(agent["StandardErrorPath"].as_string(), Some(log.as_str()));
        }
    }
}
