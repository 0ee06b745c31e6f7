//! A systemd user unit, and the user's systemd.

use std::fmt::Write as _;
use std::path::PathBuf;

use clawchat_ipc::ErrorCode;

use super::{Condition, Facts, Refusal, Unit, run};
use crate::failure::{Failure, Outcome};

/// What starts the unit at login.
const TARGET: &str = "default.target";

/// What every unit says beside what it starts.
const SETTINGS: &str = "\
Restart=on-failure
RestartSec=5
# 2: the command line cannot be meant, 5: wrong password. Trying again would not help.
RestartPreventExitStatus=2 5
# The daemon ends within 5 s of SIGTERM. What the programs it woke left behind is killed then.
KillMode=mixed
KillSignal=SIGTERM
TimeoutStopSec=8
# A woken program that takes too much memory is no reason to end the daemon.
OOMPolicy=continue
UMask=0077
LimitNOFILE=65536

# Only what a user's systemd can do without privileges. What needs a mount or user namespace (ProtectSystem=,
# PrivateTmp=, ProtectKernelTunables=) has no effect with older versions, and with newer ones the daemon does not start
# where user namespaces are restricted. What drops capabilities (ProtectKernelModules=, ProtectKernelLogs=, ProtectClock=,
# PrivateDevices=, CapabilityBoundingSet=) makes every start fail with 218/CAPABILITIES. All of it would hold for
# woken programs too, which need their own files in the home folder.
NoNewPrivileges=yes
LockPersonality=yes
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
SystemCallArchitectures=native
SystemCallFilter=~@clock @cpu-emulation @debug @module @mount @obsolete @raw-io @reboot @swap
SystemCallErrorNumber=EPERM
# MemoryDenyWriteExecute= stays off: woken programs inherit it, and the compiler in Node.js (OpenClaw) needs memory
# that is written, then executed.
";

/// The unit's text.
///
/// # Errors
/// When systemd refuses the path of the program.
pub(super) fn unit_text(facts: &Facts) -> Outcome<String> {
    if let Some(letter) = facts
        .program
        .chars()
        .find(|letter| matches!(letter, '"' | '\'' | '\\'))
    {
        let message = format!(
            "systemd runs no program with {letter} in its path: {}",
            facts.program
        );
        return Err(Failure::new(ErrorCode::Failed, message).hint("install clawchatd in another folder"));
    }
    let mut text = format!(
        "# Written by `clawchat service install`. Put changes into a drop-in: systemctl --user edit {}\n# {}\n",
        facts.name,
        facts.comment()
    );
    let _ = write!(
        text,
        "[Unit]\nDescription=ClawChat gateway ({})\n# After 10 starts in 5 minutes it stays down.\nStartLimitIntervalSec=300\nStartLimitBurst=10\n\n[Service]\nType=exec\n",
        specifiers_escaped(&facts.home)
    );
    let _ = writeln!(text, "ExecStart={}", command_line(&facts.command()));
    text.push_str("ExecReload=kill -HUP $MAINPID\n");
    let _ = writeln!(
        text,
        "Environment={}",
        quoted(&format!("PATH={}", facts.search_path))
    );
    text.push_str(SETTINGS);
    let _ = write!(text, "\n[Install]\nWantedBy={TARGET}\n");
    Ok(text)
}

/// Enables, starts, and restarts what runs with older settings.
pub(super) fn enable(unit: &Unit, changed: bool) -> Result<(), Refusal> {
    let name = service(unit);
    systemctl(&["daemon-reload"]).map_err(|refusal| Refusal {
        unreachable: true,
        ..refusal
    })?;
    let was_active = changed && condition(unit).active == Some(true);
    // Starts that failed earlier do not count against this one. There may have been none.
    let _ = systemctl(&["reset-failed", &name]);
    systemctl(&["enable", "--now", &name])?;
    if was_active {
        systemctl(&["restart", &name])?;
    }
    Ok(())
}

/// Stops and disables.
pub(super) fn disable(unit: &Unit) -> Result<(), Refusal> {
    systemctl(&["disable", "--now", &service(unit)]).map(drop)
}

/// Has systemd notice that the file has gone, and forget how the service ended.
pub(super) fn forget(unit: &Unit) {
    // The unit is gone, whether systemd knows or not.
    let _ = systemctl(&["daemon-reload"]);
    let _ = systemctl(&["reset-failed", &service(unit)]);
}

/// What systemd says.
pub(super) fn condition(unit: &Unit) -> Condition {
    let name = service(unit);
    let enabled = word(&["is-enabled", &name]);
    let active = word(&["is-active", &name]);
    Condition {
        enabled: match enabled {
            Some(word) => Some(word == "enabled" || word == "enabled-runtime"),
            // Of a unit it does not know, systemd says nothing here, but that it is inactive.
            None => active.as_ref().map(|_| false),
        },
        failed: active.as_deref() == Some("failed"),
        active: active.map(|word| matches!(word.as_str(), "active" | "reloading")),
    }
}

/// The link that has the unit started at login.
pub(super) fn enabled_link(unit: &Unit) -> Option<PathBuf> {
    let folder = unit.path.parent()?;
    let link = folder.join(format!("{TARGET}.wants")).join(service(unit));
    link.is_symlink().then_some(link)
}

/// What a person types to enable the unit.
pub(super) fn enabling_command(unit: &Unit) -> String {
    format!(
        "systemctl --user daemon-reload && systemctl --user enable --now {}",
        service(unit)
    )
}

fn service(unit: &Unit) -> String {
    format!("{}.service", unit.name)
}

fn systemctl(arguments: &[&str]) -> Result<String, Refusal> {
    run("systemctl", &[&["--user"], arguments].concat())
}

/// The one word of an answer, whatever the exit status; `None` when systemd could not be asked.
fn word(arguments: &[&str]) -> Option<String> {
    let output = std::process::Command::new("systemctl")
        .arg("--user")
        .args(arguments)
        .output()
        .ok()?;
    let word = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    (!word.is_empty()).then_some(word)
}

/// The words of `ExecStart=`. The colon in front has systemd leave `$` alone, in the path of the program too, where
/// doubling it would not help.
fn command_line(words: &[&str]) -> String {
    let mut line = String::new();
    for word in words {
        if line.is_empty() {
            line = quoted(&format!(":{word}"));
        } else {
            line.push(' ');
            line.push_str(&quoted(word));
        }
    }
    line
}

/// One word as unit files have them: in quotes where it needs them, `%` doubled.
fn quoted(word: &str) -> String {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "/._-+=@,:%".contains(letter);
    let mut text = specifiers_escaped(word);
    if word.is_empty() || !word.chars().all(plain) {
        text = format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
    }
    text
}

fn specifiers_escaped(text: &str) -> String {
    text.replace('%', "%%")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// systemd's reading of a setting that is a list of words: quotes only around whole words, C escapes in and
    /// out of them, `%%` for `%`.
    fn words_of(line: &str) -> Option<Vec<String>> {
        let mut letters = line.chars().peekable();
        let mut words = Vec::new();
        loop {
            while letters.next_if(|letter| " \t\n\r".contains(*letter)).is_some() {}
            let Some(first) = letters.peek().copied() else {
                return Some(words);
            };
            let quote = "\"'".contains(first).then_some(first);
            if quote.is_some() {
                letters.next();
            }
            let mut word = String::new();
            loop {
                match letters.next() {
                    None if quote.is_some() => return None,
                    None => break,
                    Some(letter) if Some(letter) == quote => match letters.peek() {
                        None | Some(' ') => break,
                        Some(_) => return None,
                    },
                    Some(letter) if quote.is_none() && " \t\n\r".contains(letter) => break,
                    Some(letter) if quote.is_none() && "\"'".contains(letter) => return None,
                    Some('\\') => match letters.next()? {
                        letter @ ('\\' | '"' | '\'') => word.push(letter),
                        _ => return None,
                    },
                    Some('%') => match letters.next()? {
                        '%' => word.push('%'),
                        _ => return None,
                    },
                    Some(letter) => word.push(letter),
                }
            }
            words.push(word);
        }
    }

    proptest! {
        #[test]
        fn systemd_reads_back_every_path(
            program in "/[^\\p{Cc}\"'\\\\]{0,40}",
            home in "/\\PC{0,40}",
            password in "/[ %$\"'\\\\;#{}a-z\u{e9}\u{1f980}-]{0,40}",
        ) {
            let line = command_line(&[&program, "--data-dir", &home, "--password-file", &password]);
            prop_assert!(!line.contains('\n'));
            let words = words_of(&line).unwrap();
            let first = format!(":{program}");
            prop_assert_eq!(words, [first.as_str(), "--data-dir", &home, "--password-file", &password]);
            let path = quoted(&format!("PATH={home}"));
            prop_assert_eq!(words_of(&path).unwrap(), [format!("PATH={home}")]);
        }
    }

    #[test]
    fn plain_words_stay_as_they_are() {
        assert_eq!(
            command_line(&["/usr/bin/clawchatd", "--data-dir", "/home/me/.clawchat"]),
            ":/usr/bin/clawchatd --data-dir /home/me/.clawchat"
        );
        assert_eq!(
            command_line(&["/a b/c", "/%h", "/$HOME", "/x\"y\\"]),
            r#"":/a b/c" /%%h "/$HOME" "/x\"y\\""#
        );
    }
}
