//! Local requests about channels.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, PoisonError};

use clawchat_ipc::{ErrorCode, Failure, Reply, Request};
use clawchat_mesh::{ChannelId, MAX_BODY_BYTES, Message, MessageError, PeerName, Side};
use clawchat_store::{ChannelInfo, HistoryFrom, LogEntry, StoreError};
use clawchat_types::Content;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::hub::{Input, Status};
use super::peer::MeshPeer;
use super::{feed, media, view};
use crate::clock;

/// Messages of a history unless a request says how many.
const HISTORY: u64 = 100;
/// Most messages in one answer.
const MAX_HISTORY: u64 = 1000;
/// How many of the newest messages are looked through for members.
const MEMBERS_AMONG: u64 = 5000;
/// Messages read from the log at a time.
const PAGE: usize = 500;
/// Bytes of text in them.
const PAGE_BYTES: usize = 2 * 1024 * 1024;
/// Members in one answer.
const MAX_MEMBERS: usize = 1000;
/// Lines waiting for a slow subscriber.
const LINES: usize = 64;
/// Channels of one subscription.
const MAX_FEEDS: usize = 64;

/// Who is meant by a name, beside the names of the mesh.
pub(crate) trait PeerNames: Sync {
    /// The mesh peer that somebody's gateway is; `None` for a name that means nobody.
    ///
    /// # Errors
    /// It means somebody who cannot be written to, and why.
    fn peer_of(&self, who: &str) -> Result<Option<PeerName>, Failure>;
}

/// Nobody is known by another name.
pub(crate) struct NoNames;

impl PeerNames for NoNames {
    fn peer_of(&self, _who: &str) -> Result<Option<PeerName>, Failure> {
        Ok(None)
    }
}

/// Which part of a history.
struct Part {
    limit: Option<u64>,
    before: Option<String>,
    after: Option<String>,
}

impl MeshPeer {
    /// Answers a request about channels.
    ///
    /// # Errors
    /// Why it cannot be done; `unsupported` for requests about anything else.
    pub(crate) async fn answer(
        self: &Arc<Self>,
        request: Request,
        names: &dyn PeerNames,
    ) -> Result<Reply, Failure> {
        let value = match request {
            Request::ChannelJoin { channel } => self.join(&channel).await?,
            Request::ChannelLeave { channel } => self.leave(&channel).await?,
            Request::ChannelList => self.list()?,
            Request::ChannelSend {
                channel,
                body,
                payload,
                file,
            } => {
                let channel = named(&channel)?;
                self.publish(channel, &body, media::attach(payload, file)?)
                    .await?
            }
            Request::ChannelHistory {
                channel,
                limit,
                before,
                after,
            } => {
                let channel = named(&channel)?;
                self.known(&channel)?;
                let part = Part { limit, before, after };
                self.history(&channel, part)?
            }
            Request::ChannelMembers { channel } => self.members(&named(&channel)?).await?,
            Request::MeshCheck => self.check().await?,
            Request::ChannelSave { message, channel } => self.file(&message, channel.as_deref())?,
            Request::DmSend {
                to,
                body,
                payload,
                file,
            } => {
                let payload = media::attach(payload, file)?;
                let channel = self.direct(&to, names).await?;
                self.ask_to_join(channel.clone()).await?;
                self.publish(channel, &body, payload).await?
            }
            Request::DmHistory {
                with,
                limit,
                before,
                after,
            } => {
                let channel = self.direct(&with, names).await?;
                self.history(&channel, Part { limit, before, after })?
            }
            Request::Subscribe {
                after,
                from,
                channels,
                ..
            } => return self.subscribe(after, from.as_deref(), &channels, names).await,
            _ => return Err(Failure::new(ErrorCode::Unsupported, "the mesh cannot do that")),
        };
        Ok(Reply::ok(value))
    }

    /// The mesh's part of `status`.
    pub(crate) async fn status(&self) -> Result<Value, Failure> {
        let status = self.ask_status().await?;
        let links: Vec<Value> = status
            .links
            .iter()
            .map(|(link, label)| {
                json!({
                    "peerId": link.peer.as_ref().map(PeerName::as_str),
                    "address": &**label,
                    "outbound": link.side == Side::Dialed,
                    "relay": link.capabilities.relay,
                    "store": link.capabilities.store,
                    "subscriptions": link.subscriptions,
                    "level": link.level,
                    "behind": link.behind,
                })
            })
            .collect();
        let counters = status.counters;
        let linked = |url: &str| {
            let mut links = status.links.iter();
            links.any(|(link, label)| link.peer.is_some() && **label == *url)
        };
        let dialing = self
            .dialing
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let dialing: Vec<Value> = dialing
            .iter()
            .map(|(url, error)| json!({ "url": url, "connected": linked(url), "error": error }))
            .collect();
        let bootstrap = self.settings.bootstrap.as_ref().map(|url| {
            let state = self.list_news.now();
            json!({
                "url": url, "peers": state.peers, "fetchedAt": state.fetched_at, "error": state.error,
                "clockAhead": state.clock_ahead,
            })
        });
        Ok(json!({
            "peerId": self.name().as_str(),
            "listen": self.listening().map(|address| address.to_string()),
            "tls": self.settings.tls.is_some(),
            "dialing": dialing,
            "bootstrap": bootstrap,
            "links": links,
            "channels": status.followed.len(),
            "counters": {
                "frames": counters.frames, "stored": counters.stored, "duplicates": counters.duplicates,
                "refused": counters.refused, "fromFuture": counters.from_future, "fed": counters.fed, "served": counters.served,
                "passedOn": counters.passed_on, "missed": counters.missed,
                "errorsSent": counters.errors_sent, "errorsReceived": counters.errors_received,
            },
        }))
    }

    async fn check(&self) -> Result<Value, Failure> {
        let written = self.hub.ask(|answer| Input::Check { answer }).await?;
        Ok(match written {
            Ok(()) => json!({ "writable": true }),
            Err(failure) => json!({ "writable": false, "error": failure.message }),
        })
    }

    async fn join(&self, channel: &str) -> Result<Value, Failure> {
        let channel = named(channel)?;
        self.ask_to_join(channel.clone()).await?;
        Ok(json!({ "status": "joined", "channel": channel.as_str() }))
    }

    async fn leave(&self, channel: &str) -> Result<Value, Failure> {
        let channel = named(channel)?;
        let leaving = channel.clone();
        let followed = self
            .hub
            .ask(|answer| Input::Leave {
                channel: leaving,
                answer,
            })
            .await??;
        if !followed {
            return Err(not_joined(&channel).with_hint("'clawchat channel list' shows those that are joined"));
        }
        Ok(json!({ "status": "left", "channel": channel.as_str() }))
    }

    fn list(&self) -> Result<Value, Failure> {
        let channels = self.hub.log.log().channels().map_err(|error| storage(&error))?;
        Ok(channels.iter().map(|info| self.channel(info)).collect())
    }

    fn channel(&self, info: &ChannelInfo) -> Value {
        let mut value = json!({
            "channel": &*info.name, "joined": info.followed, "count": info.count, "bytes": info.bytes,
            "first": info.first, "last": info.last,
        });
        if info.last > 0 {
            value["lastReceivedAt"] = json!(info.last_received_at);
        }
        if let Some(other) = self.other_of(&info.name) {
            value["with"] = json!(other);
        }
        value
    }

    /// Who else is in a channel of two.
    fn other_of<'a>(&self, channel: &'a str) -> Option<&'a str> {
        let pair = channel.strip_prefix("dm:")?;
        let own = self.name().as_str();
        let first = pair.strip_prefix(own).and_then(|rest| rest.strip_prefix(':'));
        first.or_else(|| pair.strip_suffix(own)?.strip_suffix(':'))
    }

    async fn publish(
        &self,
        channel: ChannelId,
        body: &Content,
        payload: Option<Value>,
    ) -> Result<Value, Failure> {
        let id = clock::message_id()
            .map_err(|error| Failure::new(ErrorCode::Internal, format!("no random numbers: {error}")))?
            .to_string();
        let payload = payload.map(|payload| payload.to_string());
        if let Some(payload) = &payload
            && payload.len() > self.hub.limits.payload_bytes
        {
            return Err(too_large("payload", payload.len(), self.hub.limits.payload_bytes));
        }
        if body.as_str().len() > MAX_BODY_BYTES {
            return Err(too_large("text", body.as_str().len(), MAX_BODY_BYTES));
        }
        let message = Message::draft(
            channel.clone(),
            self.name().clone(),
            body.as_str(),
            payload.as_deref(),
            clock::now(),
            &id,
        )
        .and_then(|draft| draft.sign(self.key()))
        .map_err(|error| unsendable(&error))?;
        let timestamp = message.message().timestamp().to_owned();
        let published = self.hub.ask(|answer| Input::Publish { message, answer }).await?;
        let arrival = published.map_err(|failure| match failure.code {
            ErrorCode::NoSuchChannel => not_joined(&channel),
            _ => failure,
        })?;
        Ok(json!({
            "status": "sent", "id": id, "channel": channel.as_str(), "sender": self.name().as_str(),
            "timestamp": timestamp, "arrival": arrival,
        }))
    }

    fn history(&self, channel: &ChannelId, part: Part) -> Result<Value, Failure> {
        let log = self.hub.log.log();
        let place = |id: &str| self.entry(channel, id);
        let (anchor, forwards) = match (&part.before, &part.after) {
            (Some(_), Some(_)) => {
                return Err(Failure::invalid("\"before\" and \"after\" do not go together"));
            }
            (Some(before), None) => (Some(place(before)?), false),
            (None, Some(after)) => (Some(place(after)?), true),
            (None, None) => (None, false),
        };
        let from = match &anchor {
            None => HistoryFrom::Newest,
            Some(entry) if forwards => HistoryFrom::After {
                time: entry.time,
                id: &entry.id,
            },
            Some(entry) => HistoryFrom::Before {
                time: entry.time,
                id: &entry.id,
            },
        };
        let limit = usize::try_from(part.limit.unwrap_or(HISTORY).min(MAX_HISTORY)).unwrap_or(usize::MAX);
        let entries = log
            .history(channel.as_str(), from, limit)
            .map_err(|error| storage(&error))?;
        entries.iter().map(view::message).collect()
    }

    fn entry(&self, channel: &ChannelId, id: &str) -> Result<LogEntry, Failure> {
        let entry = self
            .hub
            .log
            .log()
            .entry(channel.as_str(), id)
            .map_err(|error| storage(&error))?;
        entry.ok_or_else(|| no_message(id, Some(channel.as_str())))
    }

    async fn members(&self, channel: &ChannelId) -> Result<Value, Failure> {
        let info = self.known(channel)?;
        let status = self.ask_status().await?;
        let mut after = info.last.saturating_sub(MEMBERS_AMONG);
        let mut members: HashMap<PeerName, (u64, clawchat_types::UnixMillis, bool)> = HashMap::new();
        loop {
            let page = self
                .hub
                .log
                .log()
                .page(channel.as_str(), after, PAGE, PAGE_BYTES)
                .map_err(|error| storage(&error))?;
            let Some(last) = page.last() else { break };
            after = last.arrival;
            for entry in &page {
                let sender = view::parsed(entry)?.sender().clone();
                if members.len() >= MAX_MEMBERS && !members.contains_key(&sender) {
                    continue;
                }
                let (count, seen, verified) = members.entry(sender).or_default();
                *count += 1;
                *seen = entry.received_at.max(*seen);
                *verified |= entry.verified;
            }
            tokio::task::yield_now().await;
        }
        let following = channel.clone();
        let subscribed = self
            .hub
            .ask(|answer| Input::Subscribers {
                channel: following,
                answer,
            })
            .await?;
        let mut subscribed: HashSet<PeerName> = subscribed.into_iter().collect();
        if info.followed {
            members.entry(self.name().clone()).or_default().2 = true;
            subscribed.insert(self.name().clone());
        }
        for name in &subscribed {
            members.entry(name.clone()).or_default();
        }
        let neighbour = |name: &PeerName| {
            status
                .links
                .iter()
                .any(|(link, _)| link.peer.as_ref() == Some(name))
        };
        let mut list: Vec<_> = members.into_iter().collect();
        list.sort_by(|(one, (_, a, _)), (other, (_, b, _))| {
            b.cmp(a).then_with(|| one.as_str().cmp(other.as_str()))
        });
        Ok(list
            .into_iter()
            .map(|(name, (count, seen, verified))| {
                let mut member = json!({
                    "sender": name.as_str(), "verified": verified, "messages": count,
                    "self": name == *self.name(), "neighbour": neighbour(&name), "subscribed": subscribed.contains(&name),
                });
                if count > 0 {
                    member["lastReceivedAt"] = json!(seen);
                }
                member
            })
            .collect())
    }

    fn file(&self, id: &str, channel: Option<&str>) -> Result<Value, Failure> {
        let channels = match channel {
            Some(channel) => {
                let channel = named(channel)?;
                self.known(&channel)?;
                vec![channel]
            }
            None => {
                let all = self.hub.log.log().channels().map_err(|error| storage(&error))?;
                all.iter().filter_map(|info| info.name.parse().ok()).collect()
            }
        };
        let mut found = Vec::new();
        for channel in &channels {
            let entry = self
                .hub
                .log
                .log()
                .entry(channel.as_str(), id)
                .map_err(|error| storage(&error))?;
            found.extend(entry.map(|entry| (channel, entry)));
        }
        match found.as_slice() {
            [] => Err(no_message(id, channel)),
            [(channel, entry)] => {
                let message = view::parsed(entry)?;
                let mut file = media::checked(view::payload(&message).as_ref())?;
                file["channel"] = json!(channel.as_str());
                file["sender"] = json!(message.sender().as_str());
                file["verified"] = json!(entry.verified);
                Ok(file)
            }
            [_, _, ..] => Err(Failure::new(
                ErrorCode::Failed,
                format!("several channels have a message {id}"),
            )
            .with_hint("say which one with --channel NAME")),
        }
    }

    async fn subscribe(
        self: &Arc<Self>,
        after: Option<u64>,
        from: Option<&str>,
        channels: &[String],
        names: &dyn PeerNames,
    ) -> Result<Reply, Failure> {
        if after.is_some() && channels.len() > 1 {
            return Err(Failure::invalid("\"after\" goes with a single channel"));
        }
        if channels.len() > MAX_FEEDS {
            return Err(Failure::invalid(format!(
                "\"channels\" has more than {MAX_FEEDS} entries"
            )));
        }
        let from = match from {
            Some(from) => Some(self.peer_named(from, names).await?),
            None => None,
        };
        let (lines, reply) = mpsc::channel(LINES);
        let mut feeds = Vec::new();
        for name in channels {
            let channel = named(name)?;
            let info = self.known(&channel)?;
            if !info.followed {
                return Err(not_joined(&channel));
            }
            let cursor = after.unwrap_or(info.last);
            feeds.push(feed::run(
                Arc::clone(&self.hub),
                channel,
                cursor,
                from.clone(),
                lines.clone(),
            ));
        }
        for feed in feeds {
            self.spawn(feed);
        }
        Ok(Reply::Stream(reply))
    }

    /// The channel of us and somebody.
    async fn direct(&self, who: &str, names: &dyn PeerNames) -> Result<ChannelId, Failure> {
        let peer = self.peer_named(who, names).await?;
        if peer == *self.name() {
            return Err(Failure::new(
                ErrorCode::UnknownRecipient,
                format!("{who} is this gateway itself"),
            )
            .with_hint("identities of one gateway reach each other with: clawchat send"));
        }
        ChannelId::direct(self.name().as_str(), peer.as_str())
            .map_err(|error| Failure::new(ErrorCode::UnknownRecipient, error.to_string()))
    }

    /// Who is meant: a key, somebody the mesh has seen, or whoever else is known by that name.
    async fn peer_named(&self, who: &str, names: &dyn PeerNames) -> Result<PeerName, Failure> {
        let unknown = || {
            Failure::new(ErrorCode::UnknownRecipient, format!("nobody is known as {who:?}")).with_hint(
                "give a mesh peer id ('clawchat channel members NAME' shows them), or add the peer first: clawchat peers add",
            )
        };
        let name: Option<PeerName> = who.parse().ok();
        if let Some(name) = &name
            && name.as_key().is_some()
        {
            return Ok(name.clone());
        }
        if let Some(peer) = names.peer_of(who)? {
            return Ok(peer);
        }
        let Some(name) = name else { return Err(unknown()) };
        let seen = self.hub.key_of(name.as_str()).is_some() || {
            let status = self.ask_status().await?;
            status
                .links
                .iter()
                .any(|(link, _)| link.peer.as_ref() == Some(&name))
        };
        let talked = || {
            let channel = ChannelId::direct(self.name().as_str(), name.as_str()).ok()?;
            self.hub.log.log().channel(channel.as_str()).ok()?
        };
        if seen || talked().is_some() {
            Ok(name)
        } else {
            Err(unknown())
        }
    }

    /// What is known about a channel somebody asks for.
    fn known(&self, channel: &ChannelId) -> Result<ChannelInfo, Failure> {
        let info = self
            .hub
            .log
            .log()
            .channel(channel.as_str())
            .map_err(|error| storage(&error))?;
        info.ok_or_else(|| not_joined(channel))
    }

    async fn ask_to_join(&self, channel: ChannelId) -> Result<(), Failure> {
        self.hub.ask(|answer| Input::Join { channel, answer }).await?
    }

    async fn ask_status(&self) -> Result<Status, Failure> {
        self.hub.ask(|answer| Input::Status { answer }).await
    }
}

/// What callers hear where there is no mesh.
pub(crate) fn no_mesh() -> Failure {
    Failure::new(ErrorCode::Unsupported, "this gateway takes no part in the mesh")
        .with_hint("set \"mesh\": {\"enabled\": true} in gateway-config.json and restart the daemon")
}

fn named(channel: &str) -> Result<ChannelId, Failure> {
    channel
        .parse()
        .map_err(|error| Failure::invalid(format!("\"channel\": {error}")))
}

fn not_joined(channel: &ChannelId) -> Failure {
    Failure::new(
        ErrorCode::NoSuchChannel,
        format!("the channel {:?} is not followed here", channel.as_str()),
    )
    .with_hint("join it first: clawchat channel join NAME")
}

fn no_message(id: &str, channel: Option<&str>) -> Failure {
    let place = channel.map_or_else(
        || "any channel here".to_owned(),
        |channel| format!("channel {channel:?}"),
    );
    Failure::new(ErrorCode::NoSuchMessage, format!("no message {id:?} in {place}"))
        .with_hint("'clawchat channel history NAME' shows the messages with their ids")
}

fn too_large(what: &str, bytes: usize, limit: usize) -> Failure {
    Failure::new(
        ErrorCode::TooLarge,
        format!("the {what} has {bytes} bytes; a message of the mesh takes {limit}"),
    )
    .with_hint("make it smaller, split it, or send a link to it")
}

fn unsendable(error: &MessageError) -> Failure {
    let code = match error {
        MessageError::TooLong { .. } => ErrorCode::TooLarge,
        _ => ErrorCode::InvalidRequest,
    };
    Failure::new(code, format!("this cannot be sent: {error}"))
        .with_hint("make it smaller, or flatten what is nested deeply")
}

fn storage(error: &StoreError) -> Failure {
    crate::api::storage(error)
}
