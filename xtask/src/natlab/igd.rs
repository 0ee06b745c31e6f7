//! A router that forwards ports to whoever asks it to (UPnP IGD): miniupnpd, where it is installed.

use std::fs::{self, File};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::space::{Lab, Space};
use crate::gateways::Outcome;

/// What it is, and what Debian calls the package.
const PROGRAM: &str = "miniupnpd";
const PACKAGE: &str = "miniupnpd-nftables";
/// How long it may take to start.
const START_LIMIT: Duration = Duration::from_secs(30);
/// What it logs when whoever searches finds it.
const READY: &str = "HTTP listening on port";
/// The table it writes its rules to.
const TABLE: &str = "table inet igd {\n  chain forward {\n    type filter hook forward priority filter - 1;\n  }\n  \
                     chain prerouting {\n    type nat hook prerouting priority dstnat;\n  }\n  \
                     chain postrouting {\n    type nat hook postrouting priority srcnat - 1;\n  }\n}\n";
/// Forwards any port to who asks, and to nobody else.
const CONFIG: &str = "ext_ifname=wan\nlistening_ip=lan\nenable_upnp=yes\nenable_natpmp=no\nsecure_mode=yes\n\
                      upnp_table_name=igd\nupnp_nat_table_name=igd\nupnp_forward_chain=forward\n\
                      upnp_nat_chain=prerouting\nupnp_nat_postrouting_chain=postrouting\n\
                      uuid=5c1a4f6e-0000-4000-8000-000000000001\nallow 1024-65535 0.0.0.0/0 1024-65535\n";

/// It runs as long as this lives.
pub(super) struct Igd {
    process: Child,
    _folder: TempDir,
}

impl Igd {
    /// Starts it on a router between `lan` and `wan`, and waits until it can be found.
    pub(super) fn start(lab: &Lab, router: &Space) -> Outcome<Self> {
        if let Some(reason) = missing() {
            return Err(reason);
        }
        let folder =
            tempfile::tempdir().map_err(|error| format!("cannot make a temporary folder: {error}"))?;
        let path = |name: &str| folder.path().join(name);
        let (config, log) = (path("config"), path("log"));
        let failed = |error: std::io::Error| format!("{PROGRAM}: {error}");
        fs::write(&config, CONFIG).map_err(failed)?;
        let (out, errors) = {
            let file = File::create(&log).map_err(failed)?;
            (file.try_clone().map_err(failed)?, file)
        };
        router.nft(TABLE)?;
        let process = router.run(|| {
            // In the foreground, so that it ends with this process.
            Command::new(PROGRAM)
                .arg("-d")
                .arg("-f")
                .arg(&config)
                .arg("-P")
                .arg(path("pid"))
                .stdin(Stdio::null())
                .stdout(out)
                .stderr(errors)
                .spawn()
                .map_err(failed)
        })?;
        let mut started = Self {
            process,
            _folder: folder,
        };
        let ready = lab.until(Instant::now() + START_LIMIT, || {
            let said = fs::read_to_string(&log).map_err(failed)?;
            if said.contains(READY) {
                return Ok(Some(()));
            }
            match started.process.try_wait().map_err(failed)? {
                Some(status) => Err(format!("{PROGRAM} ended with {status}: {said}")),
                None => Ok(None),
            }
        })?;
        ready
            .map(|()| started)
            .ok_or_else(|| format!("{PROGRAM} does not serve after {} s", START_LIMIT.as_secs()))
    }
}

impl Drop for Igd {
    fn drop(&mut self) {
        // Fails only for a process that has ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Why there can be no such router here.
pub(super) fn missing() -> Option<String> {
    let output = Command::new(PROGRAM)
        .arg("--version")
        .stdin(Stdio::null())
        .output();
    let there = output.is_ok_and(|output| {
        let said = [output.stdout, output.stderr].concat();
        String::from_utf8_lossy(&said).contains("nftables")
    });
    (!there).then(|| format!("{PROGRAM} is not installed; the package {PACKAGE} has it"))
}
