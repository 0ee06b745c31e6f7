//! Flags, environment and defaults, combined once into what the commands use.

use std::ffi::OsString;
use std::path::{self, PathBuf};

use clawchat_ipc::Secret;

use crate::args::{Global, OutputFormat};
use crate::failure::Failure;
use crate::password::PasswordSource;

/// Name of the socket in the home folder.
const SOCKET: &str = "clawchat.sock";
/// Name of the folder under the user's home that is used when nothing else is said.
const DEFAULT_FOLDER: &str = ".clawchat";

/// What every command needs to know.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// The gateway's home folder, absolute.
    pub(crate) home: PathBuf,
    /// For people or for programs.
    pub(crate) format: OutputFormat,
    /// Which identity acts; `None` is the first loaded.
    pub(crate) acting: Option<String>,
    /// Where a password would come from.
    pub(crate) password: PasswordSource,
}

impl Settings {
    /// Combines flags (strongest), environment and defaults.
    ///
    /// `environment` looks a variable up; an empty value counts as unset.
    ///
    /// # Errors
    /// A usage failure: `CLAWCHAT_OUTPUT` or `CLAWCHAT_AS` unreadable, two ways to give the password or the
    /// output format, no home folder.
    pub(crate) fn resolve(
        flags: &Global,
        environment: impl Fn(&str) -> Option<OsString>,
        stdout_is_terminal: bool,
    ) -> Result<Self, Failure> {
        let variable = |name: &str| environment(name).filter(|value| !value.is_empty());
        let text = |name: &str| -> Result<Option<String>, Failure> {
            variable(name)
                .map(|value| {
                    value
                        .into_string()
                        .map_err(|_| Failure::usage(format!("{name} is not UTF-8"), format!("unset {name}")))
                })
                .transpose()
        };
        Ok(Self {
            home: home(flags.data_dir.clone(), &variable)?,
            format: format(flags, text("CLAWCHAT_OUTPUT")?.as_deref(), stdout_is_terminal)?,
            acting: match &flags.acting {
                Some(who) => Some(who.clone()),
                None => text("CLAWCHAT_AS")?,
            },
            password: password(flags, variable("CLAWCHAT_PASSWORD_FILE").map(PathBuf::from))?,
        })
    }

    /// The daemon's socket.
    pub(crate) fn socket(&self) -> PathBuf {
        self.home.join(SOCKET)
    }

    /// The same for another home folder, with nothing of this one's identity or password.
    pub(crate) fn elsewhere(&self, home: PathBuf) -> Self {
        Self {
            home,
            format: self.format,
            acting: None,
            password: PasswordSource::Ask,
        }
    }
}

/// The format an unreadable command line is answered in: as much as can be told from its words.
pub(crate) fn format_of_words(
    words: &[OsString],
    environment: impl Fn(&str) -> Option<OsString>,
    stdout_is_terminal: bool,
) -> OutputFormat {
    let words = words.iter().take_while(|word| *word != "--");
    let mut said = None;
    let mut after_flag = false;
    for word in words {
        if after_flag {
            said = said.or_else(|| word.to_str().and_then(named_format));
        } else if word == "--json" {
            said = Some(OutputFormat::Json);
        } else if let Some(value) = word.to_str().and_then(|word| word.strip_prefix("--output=")) {
            said = said.or_else(|| named_format(value));
        }
        after_flag = word == "--output";
    }
    let from_environment = || environment("CLAWCHAT_OUTPUT")?.to_str().and_then(named_format);
    said.or_else(from_environment)
        .unwrap_or_else(|| default_format(stdout_is_terminal))
}

fn home(flag: Option<PathBuf>, variable: &impl Fn(&str) -> Option<OsString>) -> Result<PathBuf, Failure> {
    let said = flag.or_else(|| variable("CLAWCHAT_DATA_DIR").map(PathBuf::from));
    let folder = match said {
        Some(folder) if folder.as_os_str().is_empty() => {
            return Err(Failure::usage(
                "--data-dir is empty",
                "name a folder, or leave the flag out",
            ));
        }
        Some(folder) => folder,
        None => variable("HOME")
            .map(|home| PathBuf::from(home).join(DEFAULT_FOLDER))
            .ok_or_else(|| Failure::usage("HOME is not set", "name the folder with --data-dir DIR"))?,
    };
    path::absolute(&folder)
        .map_err(|error| Failure::usage(format!("{}: {error}", folder.display()), "name another folder"))
}

fn format(flags: &Global, variable: Option<&str>, stdout_is_terminal: bool) -> Result<OutputFormat, Failure> {
    match (flags.json, flags.output, variable) {
        (true, Some(OutputFormat::Text), _) => Err(Failure::usage(
            "--json and --output text contradict each other",
            "leave one of them out",
        )),
        (true, _, _) => Ok(OutputFormat::Json),
        (false, Some(format), _) => Ok(format),
        (false, None, Some(name)) => named_format(name).ok_or_else(|| {
            Failure::usage(
                format!("CLAWCHAT_OUTPUT is {name:?}"),
                "set it to text or json, or unset it",
            )
        }),
        (false, None, None) => Ok(default_format(stdout_is_terminal)),
    }
}

fn named_format(name: &str) -> Option<OutputFormat> {
    match name {
        "text" => Some(OutputFormat::Text),
        "json" => Some(OutputFormat::Json),
        _ => None,
    }
}

const fn default_format(stdout_is_terminal: bool) -> OutputFormat {
    if stdout_is_terminal {
        OutputFormat::Text
    } else {
        OutputFormat::Json
    }
}

fn password(flags: &Global, variable: Option<PathBuf>) -> Result<PasswordSource, Failure> {
    match (&flags.password, &flags.password_file, variable) {
        (Some(_), Some(_), _) => Err(Failure::usage(
            "--password and --password-file are both given",
            "leave --password out",
        )),
        (Some(password), None, _) => Ok(PasswordSource::Given(Secret::new(password.clone()))),
        (None, Some(file), _) => Ok(PasswordSource::File(file.clone())),
        (None, None, Some(file)) => Ok(PasswordSource::File(file)),
        (None, None, None) => Ok(PasswordSource::Ask),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::path::Path;

    use super::*;

    fn flags() -> Global {
        Global {
            data_dir: None,
            output: None,
            json: false,
            acting: None,
            password_file: None,
            password: None,
        }
    }

    fn environment(pairs: &[(&str, &str)]) -> impl Fn(&str) -> Option<OsString> {
        let pairs: HashMap<String, OsString> = pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), OsString::from(value)))
            .collect();
        move |name| pairs.get(name).cloned()
    }

    #[test]
    fn a_flag_beats_the_environment_which_beats_the_default() {
        let all = environment(&[
            ("HOME", "/home/me"),
            ("CLAWCHAT_DATA_DIR", "/env"),
            ("CLAWCHAT_OUTPUT", "json"),
            ("CLAWCHAT_AS", "alice"),
            ("CLAWCHAT_PASSWORD_FILE", "/env-password"),
        ]);
        let from_environment = Settings::resolve(&flags(), &all, true).unwrap();
        assert_eq!(from_environment.home, Path::new("/env"));
        assert_eq!(from_environment.format, OutputFormat::Json);
        assert_eq!(from_environment.acting.as_deref(), Some("alice"));
        assert!(
            matches!(from_environment.password, PasswordSource::File(file) if file == Path::new("/env-password"))
        );

        let said = Global {
            data_dir: Some("/flag".into()),
            output: Some(OutputFormat::Text),
            acting: Some("bob".to_owned()),
            password_file: Some("/flag-password".into()),
            ..flags()
        };
        let from_flags = Settings::resolve(&said, &all, true).unwrap();
        assert_eq!(from_flags.home, Path::new("/flag"));
        assert_eq!(from_flags.format, OutputFormat::Text);
        assert_eq!(from_flags.acting.as_deref(), Some("bob"));
        assert!(
            matches!(from_flags.password, PasswordSource::File(file) if file == Path::new("/flag-password"))
        );
    }

    #[test]
    fn without_flags_and_environment_the_folder_is_under_home() {
        let home_only = environment(&[("HOME", "/home/me"), ("CLAWCHAT_AS", "")]);
        let settings = Settings::resolve(&flags(), &home_only, true).unwrap();
        assert_eq!(settings.home, Path::new("/home/me/.clawchat"));
        assert_eq!(settings.socket(), Path::new("/home/me/.clawchat/clawchat.sock"));
        assert_eq!(settings.format, OutputFormat::Text);
        assert_eq!(settings.acting, None);
        assert_eq!(
            Settings::resolve(&flags(), &home_only, false).unwrap().format,
            OutputFormat::Json
        );
    }

    #[test]
    fn what_cannot_be_meant_is_a_usage_failure() {
        let home_only = environment(&[("HOME", "/home/me")]);
        for (flags, environment) in [
            (flags(), environment(&[])),
            (
                flags(),
                environment(&[("HOME", "/h"), ("CLAWCHAT_OUTPUT", "xml")]),
            ),
        ] {
            assert_eq!(
                Settings::resolve(&flags, &environment, true).unwrap_err().exit(),
                2
            );
        }
        for contradiction in [
            Global {
                json: true,
                output: Some(OutputFormat::Text),
                ..flags()
            },
            Global {
                password: Some("a".to_owned()),
                password_file: Some("b".into()),
                ..flags()
            },
            Global {
                data_dir: Some("".into()),
                ..flags()
            },
        ] {
            assert_eq!(
                Settings::resolve(&contradiction, &home_only, true)
                    .unwrap_err()
                    .exit(),
                2
            );
        }
    }

    #[test]
    fn an_unreadable_line_is_answered_in_the_format_it_asks_for() {
        let nothing = environment(&[]);
        let words = |line: &str| line.split(' ').map(OsString::from).collect::<Vec<_>>();
        let format = |line: &str, terminal| format_of_words(&words(line), &nothing, terminal);
        assert_eq!(format("clawchat frob --json", true), OutputFormat::Json);
        assert_eq!(format("clawchat --output json frob", true), OutputFormat::Json);
        assert_eq!(format("clawchat frob --output=text", false), OutputFormat::Text);
        assert_eq!(format("clawchat send bob -- --json", true), OutputFormat::Text);
        assert_eq!(format("clawchat frob --output xml", false), OutputFormat::Json);
    }
}
