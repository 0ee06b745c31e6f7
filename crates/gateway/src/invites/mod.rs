//! The tokens an identity has handed out, and whom they let in.
//!
//! Looked at in memory by every handshake; on disk before anybody is told. An invite's own token lets a principal in
//! once; from then on that principal has a personal token, made of the two by both sides (`spec/invite.md`), which
//! goes on after the invite has expired or is used up, until it is revoked.

mod file;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use clawchat_identity::{personal_token, token_digest};
use clawchat_types::{InviteToken, Principal, UnixMillis};

pub(crate) use self::file::InvitesFileError;

/// Invites an identity has at a time; those that expired without anybody coming are forgotten.
pub(crate) const MAX_INVITES: usize = 256;
/// Principals let in by all invites of an identity.
pub(crate) const MAX_MEMBERS: usize = 1024;

/// What is kept of a token.
type Digest = [u8; 32];

/// The invites of one identity.
#[derive(Default)]
pub(crate) struct Invites {
    /// `None`: nothing is kept, as in tests.
    path: Option<PathBuf>,
    state: Mutex<State>,
    writing: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct State {
    invites: Vec<Entry>,
    doors: HashMap<Digest, Door>,
    /// Counts changes; `written` is the one on disk.
    changes: u64,
    written: u64,
    /// Those taken back that are on disk still, with the change that is to end that.
    revoked: Vec<(u64, Entry)>,
}

/// One invite that was handed out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Its name in lists: 8 hexadecimal digits.
    pub(crate) id: String,
    pub(crate) digest: Digest,
    pub(crate) created_at: UnixMillis,
    pub(crate) expires_at: UnixMillis,
    /// How many principals it lets in; any number without it.
    pub(crate) uses: Option<u64>,
    pub(crate) members: Vec<Member>,
}

/// Somebody an invite let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) principal: Principal,
    /// Of the personal token.
    pub(crate) digest: Digest,
    pub(crate) since: UnixMillis,
}

/// Whom a token is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Door {
    /// Whoever has the invite.
    Invite,
    /// This principal alone.
    Member(Principal),
}

impl Entry {
    pub(crate) fn is_expired(&self, now: UnixMillis) -> bool {
        self.expires_at <= now
    }

    pub(crate) fn is_used_up(&self) -> bool {
        let used = u64::try_from(self.members.len()).unwrap_or(u64::MAX);
        self.uses.is_some_and(|uses| used >= uses)
    }

    fn lets_in(&self, now: UnixMillis) -> bool {
        !self.is_expired(now) && !self.is_used_up()
    }
}

impl Invites {
    /// Those kept at `path`; none when there is no such file.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub(crate) fn load(path: PathBuf) -> Result<Self, InvitesFileError> {
        let mut state = State {
            invites: file::read(&path)?,
            ..State::default()
        };
        state.index();
        Ok(Self {
            path: Some(path),
            state: Mutex::new(state),
            writing: tokio::sync::Mutex::default(),
        })
    }

    /// Whom a token that somebody knocks with is for; `None`: it opens nothing (any more).
    pub(crate) fn door(&self, knock: &[u8], now: UnixMillis) -> Option<Door> {
        let digest = token_digest(knock);
        let state = self.state();
        let door = *state.doors.get(&digest)?;
        let open = match door {
            Door::Member(_) => true,
            Door::Invite => state
                .invites
                .iter()
                .any(|invite| invite.digest == digest && invite.lets_in(now)),
        };
        open.then_some(door)
    }

    /// Whether `principal`, whose identity is proven, comes in with this token. The first time that counts as a use of
    /// the invite; it is on disk once [`Invites::settled`] has returned.
    pub(crate) fn admit(&self, knock: &[u8], principal: &Principal, now: UnixMillis) -> bool {
        match self.door(knock, now) {
            None => false,
            Some(Door::Member(member)) => member == *principal,
            Some(Door::Invite) => self.state().redeem(knock, principal, now),
        }
    }

    /// Whether an invite has let this principal in.
    pub(crate) fn is_member(&self, principal: &Principal) -> bool {
        let state = self.state();
        let mut members = state.invites.iter().flat_map(|invite| &invite.members);
        members.any(|member| member.principal == *principal)
    }

    /// Takes in a new invite. Returns whether there was room.
    pub(crate) fn add(&self, entry: Entry, now: UnixMillis) -> bool {
        let mut state = self.state();
        state
            .invites
            .retain(|invite| !invite.is_expired(now) || !invite.members.is_empty());
        if state.invites.len() >= MAX_INVITES {
            return false;
        }
        state.invites.push(entry);
        state.changed();
        true
    }

    /// Takes an invite back, given by its name or its token, and with it everybody it let in. Returns its name and
    /// them, again and again until that is on disk; `None`: there is no such invite.
    pub(crate) fn revoke(&self, id: &str, token: Option<&InviteToken>) -> Option<Entry> {
        let digest = token.map(|token| token_digest(token.as_bytes()));
        let meant = |invite: &Entry| invite.id == id || Some(invite.digest) == digest;
        let mut state = self.state();
        let Some(index) = state.invites.iter().position(meant) else {
            let mut revoked = state.revoked.iter().map(|(_, invite)| invite);
            return revoked.find(|invite| meant(invite)).cloned();
        };
        let revoked = state.invites.remove(index);
        state.changed();
        if self.path.is_some() {
            if state.revoked.len() >= MAX_INVITES {
                state.revoked.remove(0);
            }
            let change = state.changes;
            state.revoked.push((change, revoked.clone()));
        }
        Some(revoked)
    }

    /// All of them, oldest first.
    pub(crate) fn list(&self) -> Vec<Entry> {
        self.state().invites.clone()
    }

    /// Returns when everything that was changed so far is on disk.
    ///
    /// # Errors
    /// When it cannot be written. It is tried again the next time.
    pub(crate) async fn settled(&self) -> Result<(), InvitesFileError> {
        if !self.state().is_dirty() {
            return Ok(());
        }
        let _turn = self.writing.lock().await;
        let (path, invites, change) = {
            let state = self.state();
            match &self.path {
                Some(path) if state.is_dirty() => (path.clone(), state.invites.clone(), state.changes),
                Some(_) | None => return Ok(()),
            }
        };
        tokio::task::spawn_blocking(move || file::write(&path, &invites))
            .await
            .map_err(std::io::Error::other)??;
        let mut state = self.state();
        state.written = state.written.max(change);
        let written = state.written;
        state.revoked.retain(|(change, _)| *change > written);
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn is_dirty(&self) -> bool {
        self.changes != self.written
    }

    fn changed(&mut self) {
        self.changes += 1;
        self.index();
    }

    fn index(&mut self) {
        self.doors.clear();
        for invite in &self.invites {
            self.doors.insert(invite.digest, Door::Invite);
            for member in &invite.members {
                self.doors.insert(member.digest, Door::Member(member.principal));
            }
        }
    }

    /// Counts a use, once for each principal.
    fn redeem(&mut self, knock: &[u8], principal: &Principal, now: UnixMillis) -> bool {
        let digest = token_digest(knock);
        let Ok(token) = knock.try_into().map(InviteToken::new) else {
            return false;
        };
        let members: usize = self.invites.iter().map(|invite| invite.members.len()).sum();
        let Some(invite) = self.invites.iter_mut().find(|invite| invite.digest == digest) else {
            return false;
        };
        if invite.members.iter().any(|member| member.principal == *principal) {
            return true;
        }
        if !invite.lets_in(now) || members >= MAX_MEMBERS {
            return false;
        }
        let personal = personal_token(&token, principal);
        invite.members.push(Member {
            principal: *principal,
            digest: token_digest(personal.as_bytes()),
            since: now,
        });
        self.changed();
        true
    }
}

#[cfg(test)]
mod tests;
