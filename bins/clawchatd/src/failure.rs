//! Why the daemon ends, besides being told to.

use std::path::Path;

pub(crate) use clawchat_gateway::ipc::{ErrorCode, Failure};

/// Exit code of a command line that cannot be meant.
const EXIT_USAGE: u8 = 2;

/// The exit code of a daemon that ends for this reason.
pub(crate) fn exit_code(failure: &Failure) -> u8 {
    failure.code.exit_code()
}

/// The command line cannot be meant.
pub(crate) fn usage(message: impl Into<String>, hint: &str) -> Failure {
    debug_assert_eq!(ErrorCode::InvalidRequest.exit_code(), EXIT_USAGE);
    Failure::new(ErrorCode::InvalidRequest, message).with_hint(hint)
}

/// A file could not be read.
pub(crate) fn unreadable(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(ErrorCode::Io, format!("cannot read {}: {error}", path.display()))
        .with_hint("check the path, its owner and its permissions")
}
