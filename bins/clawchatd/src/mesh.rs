//! `clawchatd mesh`: flags and the environment of the original mesh peer, combined once.

use std::ffi::OsString;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::{self, PathBuf};

use clawchat_gateway::MeshDaemonOptions;
use clawchat_gateway::config::{MeshSettings, MeshTls};

use crate::args::MeshArgs;
use crate::failure::{self, Failure};

/// Where peers are expected unless something else is said.
const DEFAULT_PORT: u16 = 5000;
const DEFAULT_HOST: &str = "0.0.0.0";

/// What a mesh peer by itself is started with.
///
/// # Errors
/// A value that cannot be meant.
pub(crate) fn options(
    home: PathBuf,
    args: &MeshArgs,
    environment: impl Fn(&str) -> Option<OsString>,
) -> Result<MeshDaemonOptions, Failure> {
    let variable = |name: &str| environment(name).filter(|value| !value.is_empty());
    let text = |name: &'static str| {
        variable(name)
            .map(|value| {
                value
                    .into_string()
                    .map_err(|_| failure::usage(format!("{name} is not text"), "correct it"))
            })
            .transpose()
    };
    let folder = |name: &'static str| {
        variable(name)
            .map(|value| {
                path::absolute(&value)
                    .map_err(|error| failure::usage(format!("{name}: {error}"), "name another folder"))
            })
            .transpose()
    };
    let mut settings = MeshSettings::default();
    settings.enabled = true;
    settings.store = !args.no_store;
    settings.relay = !args.no_relay;
    if !args.no_listen {
        let port = match args.port {
            Some(port) => port,
            None => match text("PORT")?.map_or_else(|| text("MESH_PEER_PORT"), |port| Ok(Some(port)))? {
                Some(port) => port.trim().parse().map_err(|_| {
                    failure::usage(
                        format!("{port:?} is not a port"),
                        "give PORT or MESH_PEER_PORT a number from 0 to 65535",
                    )
                })?,
                None => DEFAULT_PORT,
            },
        };
        let host = match &args.host {
            Some(host) => host.clone(),
            None => text("HOST")?.unwrap_or_else(|| DEFAULT_HOST.to_owned()),
        };
        settings.listen = Some(address(&host, port)?);
    }
    let bootstrap = match &args.bootstrap {
        Some(url) => Some(url.clone()),
        None => text("MESH_BOOTSTRAP_URL")?,
    };
    if let Some(url) = bootstrap {
        if !MeshSettings::is_http_url(&url) {
            return Err(failure::usage(
                format!("{url:?} is not an http:// or https:// URL"),
                "correct --bootstrap or MESH_BOOTSTRAP_URL",
            ));
        }
        settings.bootstrap = Some(url);
    }
    for url in &args.peer {
        if !MeshSettings::is_ws_url(url) {
            return Err(failure::usage(
                format!("{url:?} is not a ws:// or wss:// URL"),
                "correct --peer",
            ));
        }
        settings.peers.push(url.clone());
    }
    let file = |path: &PathBuf, flag: &str| {
        path::absolute(path).map_err(|error| failure::usage(format!("{flag}: {error}"), "name another file"))
    };
    if let (Some(certificate), Some(key)) = (&args.tls_certificate, &args.tls_key) {
        settings.tls = Some(MeshTls {
            certificate: file(certificate, "--tls-certificate")?,
            key: file(key, "--tls-key")?,
        });
    }
    if let Some(trust) = &args.trust {
        settings.trust = Some(file(trust, "--trust")?);
    }
    if !args.channel.is_empty() {
        settings.channels = args
            .channel
            .iter()
            .map(|name| {
                name.parse()
                    .map_err(|error| failure::usage(format!("{name:?}: {error}"), "correct --channel"))
            })
            .collect::<Result<_, _>>()?;
    }
    if !args.keep.is_empty() {
        settings.keep.clone_from(&args.keep);
    }
    Ok(MeshDaemonOptions {
        home,
        keys: folder("MESH_KEY_DIR")?,
        store: folder("MESH_STORE_PATH")?,
        settings,
    })
}

fn address(host: &str, port: u16) -> Result<SocketAddr, Failure> {
    let unknown = |reason: &str| {
        failure::usage(
            format!("{host:?} is not an address of this machine: {reason}"),
            "give --host or HOST an address such as 0.0.0.0 or 127.0.0.1",
        )
    };
    let mut addresses = (host, port)
        .to_socket_addrs()
        .map_err(|error| unknown(&error.to_string()))?;
    addresses.next().ok_or_else(|| unknown("it has none"))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use clap::Parser as _;

    use super::*;
    use crate::args::{Args, Command};

    fn options_of(line: &[&str], environment: &[(&str, &str)]) -> Result<MeshDaemonOptions, Failure> {
        let args = Args::try_parse_from([&["clawchatd", "mesh"], line].concat()).unwrap();
        let Some(Command::Mesh(args)) = args.command else {
            panic!("mesh")
        };
        options("/home".into(), &args, |name| {
            let found = environment.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| OsString::from(value))
        })
    }

    #[test]
    fn without_a_word_it_listens_on_5000_and_follows_the_lobby() {
        let options = options_of(&[], &[]).unwrap();
        assert_eq!(options.settings.listen, Some("0.0.0.0:5000".parse().unwrap()));
        assert_eq!(options.settings.channels, ["lobby".parse().unwrap()]);
        assert!(options.keys.is_none() && options.store.is_none() && options.settings.bootstrap.is_none());
    }

    #[test]
    fn the_environment_of_the_original_counts_and_flags_come_first() {
        let environment = [
            ("MESH_BOOTSTRAP_URL", "http://127.0.0.1:4000/bootstrap.json"),
            ("MESH_PEER_PORT", "5001"),
            ("HOST", "127.0.0.1"),
            ("MESH_STORE_PATH", "/data/store"),
            ("MESH_KEY_DIR", "/data/keys"),
        ];
        let options = options_of(&[], &environment).unwrap();
        assert_eq!(options.settings.listen, Some("127.0.0.1:5001".parse().unwrap()));
        assert_eq!(
            options.settings.bootstrap.as_deref(),
            Some("http://127.0.0.1:4000/bootstrap.json")
        );
        assert_eq!(options.store.as_deref(), Some(Path::new("/data/store")));
        assert_eq!(options.keys.as_deref(), Some(Path::new("/data/keys")));
        let both = [("PORT", "5002"), ("MESH_PEER_PORT", "5001")];
        assert_eq!(
            options_of(&[], &both).unwrap().settings.listen.unwrap().port(),
            5002
        );
        let flags = ["--port", "0", "--host", "::1", "--channel", "#dev"];
        let settings = options_of(&flags, &both).unwrap().settings;
        assert_eq!(settings.listen, Some("[::1]:0".parse().unwrap()));
        assert_eq!(settings.channels, ["#dev".parse().unwrap()]);
        assert!(
            options_of(&["--no-listen"], &both)
                .unwrap()
                .settings
                .listen
                .is_none()
        );
    }

    #[test]
    fn tls_has_both_files_and_trust_its_own() {
        let line = [
            "--tls-certificate",
            "/c.pem",
            "--tls-key",
            "k.pem",
            "--trust",
            "/t.pem",
        ];
        let settings = options_of(&line, &[]).unwrap().settings;
        let tls = settings.tls.unwrap();
        assert_eq!(tls.certificate, Path::new("/c.pem"));
        assert!(tls.key.is_absolute() && tls.key.ends_with("k.pem"));
        assert_eq!(settings.trust.as_deref(), Some(Path::new("/t.pem")));
        for line in [
            &["--tls-certificate", "/c.pem"][..],
            &["--tls-key", "/k.pem"],
            &[
                "--tls-certificate",
                "/c.pem",
                "--tls-key",
                "/k.pem",
                "--no-listen",
            ],
        ] {
            let line = [&["clawchatd", "mesh"], line].concat();
            assert!(Args::try_parse_from(&line).is_err(), "{line:?}");
        }
    }

    #[test]
    fn what_cannot_be_meant_is_a_usage_error() {
        for (line, environment) in [
            (&[][..], &[("PORT", "http")][..]),
            (&["--bootstrap", "ftp://x"], &[]),
            (&["--peer", "http://x"], &[]),
            (&["--channel", ""], &[]),
            (&["--host", "999.1.1.1"], &[]),
        ] {
            let failure = options_of(line, environment).unwrap_err();
            assert_eq!(failure::exit_code(&failure), 2, "{failure}");
        }
    }
}
