//! `invites.json` in the folder of an identity: digests of tokens, never the tokens.

use std::path::{Path, PathBuf};

use clawchat_types::{Principal, UnixMillis};
use serde::{Deserialize, Serialize};

use super::{Entry, MAX_INVITES, MAX_MEMBERS, Member};
use crate::home::{HomeError, read_bounded, write_atomic};

/// The only version there is.
const VERSION: u64 = 1;
/// Largest file that is read, in bytes: about twice of what the bounds allow to be written.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// Why the invites of an identity cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InvitesFileError {
    #[error(transparent)]
    Home(#[from] HomeError),
    #[error("the writing of the invites was interrupted: {0}")]
    Interrupted(#[from] std::io::Error),
    #[error("{path} holds no invites: {reason}; move it away to start without any", path = path.display())]
    Damaged { path: PathBuf, reason: String },
}

pub(super) fn read(path: &Path) -> Result<Vec<Entry>, InvitesFileError> {
    let Some(bytes) = read_bounded(path, MAX_FILE_BYTES)? else {
        return Ok(Vec::new());
    };
    parse(&bytes).map_err(|reason| InvitesFileError::Damaged {
        path: path.to_owned(),
        reason,
    })
}

pub(super) fn write(path: &Path, invites: &[Entry]) -> Result<(), InvitesFileError> {
    let document = Document {
        version: VERSION,
        invites: invites.iter().map(InviteRecord::from).collect(),
    };
    let text = serde_json::to_vec_pretty(&document).map_err(std::io::Error::other)?;
    Ok(write_atomic(path, &text)?)
}

#[derive(Serialize, Deserialize)]
struct Document {
    version: u64,
    invites: Vec<InviteRecord>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct InviteRecord {
    id: String,
    digest: String,
    created_at: UnixMillis,
    expires_at: UnixMillis,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    uses: Option<u64>,
    members: Vec<MemberRecord>,
}

#[derive(Serialize, Deserialize)]
struct MemberRecord {
    principal: Principal,
    digest: String,
    since: UnixMillis,
}

impl From<&Entry> for InviteRecord {
    fn from(entry: &Entry) -> Self {
        Self {
            id: entry.id.clone(),
            digest: hex(&entry.digest),
            created_at: entry.created_at,
            expires_at: entry.expires_at,
            uses: entry.uses,
            members: entry
                .members
                .iter()
                .map(|member| MemberRecord {
                    principal: member.principal,
                    digest: hex(&member.digest),
                    since: member.since,
                })
                .collect(),
        }
    }
}

fn parse(bytes: &[u8]) -> Result<Vec<Entry>, String> {
    let document: Document = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    if document.version != VERSION {
        return Err(format!("version {} is not known", document.version));
    }
    let members: usize = document.invites.iter().map(|invite| invite.members.len()).sum();
    if document.invites.len() > MAX_INVITES || members > MAX_MEMBERS {
        return Err("there are more of them than fit".to_owned());
    }
    document.invites.into_iter().map(entry).collect()
}

fn entry(record: InviteRecord) -> Result<Entry, String> {
    Ok(Entry {
        digest: unhex(&record.digest)?,
        id: record.id,
        created_at: record.created_at,
        expires_at: record.expires_at,
        uses: record.uses,
        members: record
            .members
            .into_iter()
            .map(|member| {
                Ok(Member {
                    principal: member.principal,
                    digest: unhex(&member.digest)?,
                    since: member.since,
                })
            })
            .collect::<Result<_, String>>()?,
    })
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Result<[u8; 32], String> {
    let digits = text.as_bytes();
    let mut bytes = [0; 32];
    if digits.len() != 64 || !text.is_ascii() {
        return Err("a digest has 64 hexadecimal digits".to_owned());
    }
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let pair = std::str::from_utf8(pair).map_err(|error| error.to_string())?;
        *byte = u8::from_str_radix(pair, 16).map_err(|_| "a digest has hexadecimal digits".to_owned())?;
    }
    Ok(bytes)
}
