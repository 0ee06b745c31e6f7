//! Every command of the socket, with its fields.

use std::time::Duration;

use clawchat_types::{Content, MessageId, Network, Nick, Principal, UnixMillis};
use serde_json::{Map, Value};

use crate::failure::{ErrorCode, Failure};
use crate::field::{Field, put, take, word};
use crate::secret::Secret;

macro_rules! requests {
    ($(
        $(#[$doc:meta])+
        $variant:ident = $cmd:literal $({
            $($(#[$field_doc:meta])+ $field:ident / $json:literal : $kind:ty,)+
        })? ;
    )+) => {
        /// One command with its fields. The text in each description is the command's name on the socket.
        ///
        /// Fields that name somebody (`to`, `from`, `who`, …) are texts a person may type: a principal, an alias
        /// or a nickname; the daemon resolves them. Durations and times are milliseconds on the socket.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Request {
            $(
                $(#[$doc])+
                $variant $({ $($(#[$field_doc])+ $field: $kind,)+ })?,
            )+
        }

        impl Request {
            /// The name of every command.
            pub const COMMANDS: &'static [&'static str] = &[$($cmd,)+];

            /// The command's name on the socket.
            #[must_use]
            pub fn command(&self) -> &'static str {
                match self { $(Self::$variant { .. } => $cmd,)+ }
            }

            /// Reads the fields of `command` out of a request object; further fields stay in it.
            pub(crate) fn take_from(command: &str, object: &mut Map<String, Value>) -> Result<Self, Failure> {
                match command {
                    $($cmd => Ok(Self::$variant { $($($field: take::<$kind>(object, $json)?,)+)? }),)+
                    _ => Err(unknown_command()),
                }
            }

            /// Writes the command and its fields into a request object.
            pub(crate) fn put_into(&self, object: &mut Map<String, Value>) {
                object.insert("cmd".to_owned(), Value::from(self.command()));
                match self {
                    $(Self::$variant $({ $($field,)+ })? => { $($(put::<$kind>(object, $json, $field);)+)? })+
                }
            }
        }
    };
}

requests! {
    /// `send`: puts a message into the outbox. Answers `{"status":"queued","id"}`, with `wait` once it is delivered.
    Send = "send" {
        /// Recipient: principal, alias or nickname of a co-hosted identity.
        to / "to": String,
        /// The text.
        content / "content": Content,
        /// Structured data beside the text.
        payload / "payload": Option<Value>,
        /// The message this one answers.
        reply_to / "replyTo": Option<MessageId>,
        /// How long the answer may wait for the delivery.
        wait / "wait": Option<Duration>,
        /// How long to keep trying; seven days unless given.
        expires / "expires": Option<Duration>,
    };
    /// `recv`: received messages, oldest first.
    Recv = "recv" {
        /// Only messages that arrived after this time.
        since / "since": Option<UnixMillis>,
        /// How long to wait until at least one message matches; without it the answer comes at once.
        timeout / "timeout": Option<Duration>,
        /// Only messages of this sender.
        from / "from": Option<String>,
        /// At most so many.
        limit / "limit": Option<u64>,
        /// Only messages no earlier `unread` request of this identity returned, which marks them.
        unread / "unread": bool,
        /// Only messages behind this arrival number.
        after / "after": Option<u64>,
    };
    /// `inbox`: the received messages.
    Inbox = "inbox" {
        /// Only messages behind this arrival number.
        after / "after": Option<u64>,
        /// At most so many.
        limit / "limit": Option<u64>,
    };
    /// `outbox`: the sent messages with their states.
    Outbox = "outbox" {
        /// Only messages behind this outbox position.
        after / "after": Option<u64>,
        /// At most so many.
        limit / "limit": Option<u64>,
    };
    /// `ask`: sends a message and answers with the reply to it.
    Ask = "ask" {
        /// Recipient: principal, alias or nickname of a co-hosted identity.
        to / "to": String,
        /// The question.
        content / "content": Content,
        /// Structured data beside the text.
        payload / "payload": Option<Value>,
        /// How long to wait for the reply; the daemon's default unless given.
        timeout / "timeout": Option<Duration>,
    };
    /// `reply`: answers a received message.
    Reply = "reply" {
        /// The message to answer.
        reply_to / "replyTo": MessageId,
        /// The text.
        content / "content": Content,
        /// Structured data beside the text.
        payload / "payload": Option<Value>,
        /// How long the answer may wait for the delivery.
        wait / "wait": Option<Duration>,
        /// How long to keep trying; seven days unless given.
        expires / "expires": Option<Duration>,
    };
    /// `subscribe`: a stream of event lines until the connection closes.
    Subscribe = "subscribe" {
        /// First the messages behind this arrival number, then new ones.
        after / "after": Option<u64>,
        /// Only messages of this sender.
        from / "from": Option<String>,
        /// Only these kinds of event; all when empty.
        events / "events": Vec<EventKind>,
        /// Messages of these mesh channels instead of the events of the identity. `after` counts arrivals in the
        /// channel, and goes with a single one.
        channels / "channels": Vec<String>,
    };
    /// `peers`: the known peers of the identity.
    Peers = "peers";
    /// `peer_add`: remembers a peer, by principal or by invite.
    PeerAdd = "peer_add" {
        /// Who it is. Needed unless there is an invite.
        principal / "principal": Option<Principal>,
        /// Where it can be reached: multiaddrs, separated by commas, or `host:port`.
        address / "address": Option<String>,
        /// A short name for it.
        alias / "alias": Option<String>,
        /// A `clawchat:…` invite, instead of principal and address.
        invite / "invite": Option<String>,
    };
    /// `peer_remove`: forgets a peer.
    PeerRemove = "peer_remove" {
        /// Principal or alias.
        principal / "principal": String,
    };
    /// `peer_resolve`: where a principal can be reached, as far as is known.
    PeerResolve = "peer_resolve" {
        /// Whom to look for.
        principal / "principal": String,
        /// Which connected peer to ask; without it only what is known here.
        through / "through": Option<String>,
    };
    /// `connect`: dials an address and opens a session.
    Connect = "connect" {
        /// The address, best with `/p2p/…`.
        multiaddr / "multiaddr": String,
    };
    /// `status`: how the daemon is.
    Status = "status";
    /// `metrics`: what the daemon counts.
    Metrics = "metrics" {
        /// As one text in the form Prometheus reads, instead of a list.
        text / "text": bool,
    };
    /// `multiaddrs`: the daemon's own addresses.
    Multiaddrs = "multiaddrs";
    /// `stop`: ends the daemon.
    Stop = "stop";
    /// `reload`: reads the configuration again.
    Reload = "reload";
    /// `gateway_init`: creates configuration and first identity.
    GatewayInit = "gateway_init" {
        /// The P2P port; 9000 unless given.
        port / "port": Option<u16>,
        /// Nickname of the first identity.
        nick / "nick": Option<Nick>,
        /// Testnet unless given.
        network / "network": Option<Network>,
        /// Seals the identity's keys.
        password / "password": Option<Secret>,
        /// 24 words to recover the first identity from.
        mnemonic / "mnemonic": Option<Secret>,
        /// Whether a folder of the single-identity layout is taken over.
        migrate / "migrate": Option<bool>,
    };
    /// `gateway_set`: changes what the configuration says of the gateway itself.
    GatewaySet = "gateway_set" {
        /// The P2P port, from the daemon's next start on.
        port / "port": u16,
    };
    /// `identity_list`: the hosted identities.
    IdentityList = "identity_list";
    /// `identity_add`: hosts another identity, new, recovered or already in the folder.
    IdentityAdd = "identity_add" {
        /// Its nickname.
        nick / "nick": Option<Nick>,
        /// An identity whose keystore is in the folder already.
        principal / "principal": Option<Principal>,
        /// Whether it is loaded at every start; yes unless given.
        autoload / "autoload": Option<bool>,
        /// Who may write to it: principals or `*`; everybody when empty.
        allow_peers / "allowPeers": Vec<String>,
        /// Seals or opens its keys.
        password / "password": Option<Secret>,
        /// 24 words to recover it from.
        mnemonic / "mnemonic": Option<Secret>,
    };
    /// `identity_remove`: hosts an identity no longer. Its folder stays.
    IdentityRemove = "identity_remove" {
        /// Principal or nickname.
        who / "who": String,
    };
    /// `identity_allow`: lets a peer write to an identity.
    IdentityAllow = "identity_allow" {
        /// The identity: principal or nickname.
        who / "who": String,
        /// The peer: principal, alias or `*`.
        peer / "peer": String,
    };
    /// `identity_deny`: takes that back.
    IdentityDeny = "identity_deny" {
        /// The identity: principal or nickname.
        who / "who": String,
        /// The peer: principal, alias or `*`.
        peer / "peer": String,
    };
    /// `identity_create`: creates an identity and its keystore.
    IdentityCreate = "identity_create" {
        /// Its nickname.
        nick / "nick": Option<Nick>,
        /// Testnet unless given, or the network of the gateway in the folder.
        network / "network": Option<Network>,
        /// Seals its keys.
        password / "password": Option<Secret>,
    };
    /// `identity_recover`: creates the identity of 24 words.
    IdentityRecover = "identity_recover" {
        /// The 24 words.
        mnemonic / "mnemonic": Secret,
        /// Its nickname.
        nick / "nick": Option<Nick>,
        /// Testnet unless given, or the network of the gateway in the folder.
        network / "network": Option<Network>,
        /// Seals its keys.
        password / "password": Option<Secret>,
    };
    /// `identity_show`: the identity of `as`.
    IdentityShow = "identity_show" {
        /// Opens its keys when no daemon has them open.
        password / "password": Option<Secret>,
    };
    /// `identity_set_nick`: names the identity of `as`.
    IdentitySetNick = "identity_set_nick" {
        /// The new nickname.
        nick / "nick": Nick,
        /// Opens its keys when no daemon has them open.
        password / "password": Option<Secret>,
    };
    /// `identity_clear_nick`: takes the nickname of the identity of `as` away.
    IdentityClearNick = "identity_clear_nick" {
        /// Opens its keys when no daemon has them open.
        password / "password": Option<Secret>,
    };
    /// `invite_create`: an invite to the identity of `as`.
    InviteCreate = "invite_create" {
        /// How long it is good for; the daemon's default unless given.
        expires / "expires": Option<Duration>,
        /// How often it can be used; without it as often as one likes.
        uses / "uses": Option<u64>,
    };
    /// `invite_list`: the invites that were made.
    InviteList = "invite_list";
    /// `invite_revoke`: makes an invite useless.
    InviteRevoke = "invite_revoke" {
        /// The invite or its name in `invite_list`.
        invite / "invite": String,
    };
    /// `channel_join`: follows a channel of the mesh from now on, also after restarts.
    ChannelJoin = "channel_join" {
        /// The channel's name.
        channel / "channel": String,
    };
    /// `channel_leave`: follows it no longer. What is stored of it stays for a while, for others.
    ChannelLeave = "channel_leave" {
        /// The channel's name.
        channel / "channel": String,
    };
    /// `channel_list`: the channels followed, and those kept for others.
    ChannelList = "channel_list";
    /// `channel_send`: publishes a message in a channel that is followed. Answers once it is stored here.
    ChannelSend = "channel_send" {
        /// The channel's name.
        channel / "channel": String,
        /// The text.
        body / "body": Content,
        /// Structured data beside the text.
        payload / "payload": Option<Value>,
        /// A small file to put into the payload: `{"name", "type"?, "data"}`, the data in base64.
        file / "file": Option<Value>,
    };
    /// `channel_history`: messages of a channel, in the order of their times.
    ChannelHistory = "channel_history" {
        /// The channel's name.
        channel / "channel": String,
        /// At most so many.
        limit / "limit": Option<u64>,
        /// Those before this message, the nearest ones.
        before / "before": Option<String>,
        /// Those after this message, the nearest ones.
        after / "after": Option<String>,
    };
    /// `channel_members`: who has written in a channel, and who is known to follow it.
    ChannelMembers = "channel_members" {
        /// The channel's name.
        channel / "channel": String,
    };
    /// `mesh_check`: whether the messages of the mesh can be written to disk, found out by writing something.
    MeshCheck = "mesh_check";
    /// `channel_save`: the file in a message, after its hash was checked.
    ChannelSave = "channel_save" {
        /// The message's id.
        message / "message": String,
        /// Where to look; every channel unless given.
        channel / "channel": Option<String>,
    };
    /// `dm_send`: publishes in the channel of two. Answers once it is stored here.
    DmSend = "dm_send" {
        /// Who: a mesh peer id, a principal, an alias or a nickname.
        to / "to": String,
        /// The text.
        body / "body": Content,
        /// Structured data beside the text.
        payload / "payload": Option<Value>,
        /// As in `channel_send`.
        file / "file": Option<Value>,
    };
    /// `dm_history`: messages of the channel of two.
    DmHistory = "dm_history" {
        /// Who: a mesh peer id, a principal, an alias or a nickname.
        with / "with": String,
        /// At most so many.
        limit / "limit": Option<u64>,
        /// Those before this message, the nearest ones.
        before / "before": Option<String>,
        /// Those after this message, the nearest ones.
        after / "after": Option<String>,
    };
}

impl Request {
    /// Whether the answer may take as long as the caller asked for: `ask`, `subscribe`, and `send`, `reply` and
    /// `recv` with a time to wait. Such a request with an `id` is answered out of order.
    #[must_use]
    pub fn waits(&self) -> bool {
        let positive = |time: &Option<Duration>| time.is_some_and(|time| !time.is_zero());
        match self {
            Self::Ask { .. } | Self::Subscribe { .. } => true,
            Self::Send { wait, .. } | Self::Reply { wait, .. } => positive(wait),
            Self::Recv { timeout, .. } => positive(timeout),
            Self::Inbox { .. }
            | Self::Outbox { .. }
            | Self::Peers
            | Self::PeerAdd { .. }
            | Self::PeerRemove { .. }
            | Self::PeerResolve { .. }
            | Self::Connect { .. }
            | Self::Status
            | Self::Metrics { .. }
            | Self::Multiaddrs
            | Self::Stop
            | Self::Reload
            | Self::GatewayInit { .. }
            | Self::GatewaySet { .. }
            | Self::IdentityList
            | Self::IdentityAdd { .. }
            | Self::IdentityRemove { .. }
            | Self::IdentityAllow { .. }
            | Self::IdentityDeny { .. }
            | Self::IdentityCreate { .. }
            | Self::IdentityRecover { .. }
            | Self::IdentityShow { .. }
            | Self::IdentitySetNick { .. }
            | Self::IdentityClearNick { .. }
            | Self::InviteCreate { .. }
            | Self::InviteList
            | Self::InviteRevoke { .. }
            | Self::ChannelJoin { .. }
            | Self::ChannelLeave { .. }
            | Self::ChannelList
            | Self::ChannelSend { .. }
            | Self::ChannelHistory { .. }
            | Self::ChannelMembers { .. }
            | Self::MeshCheck
            | Self::ChannelSave { .. }
            | Self::DmSend { .. }
            | Self::DmHistory { .. } => false,
        }
    }
}

impl Request {
    /// Whether the line of this request is to be overwritten in memory after use.
    pub(crate) fn holds_secrets(&self) -> bool {
        let command = self.command();
        command.starts_with("identity_") || command == "gateway_init"
    }
}

/// What a subscriber can be told about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventKind {
    /// `message`: a message arrived.
    Message,
    /// `state`: a sent message changed its state.
    State,
    /// `peer`: a peer connected or disconnected.
    Peer,
}

impl EventKind {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("message", Self::Message),
        ("state", Self::State),
        ("peer", Self::Peer),
    ];

    /// The word in the `event` field.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Message => "message",
            Self::State => "state",
            Self::Peer => "peer",
        }
    }
}

impl Field for Vec<EventKind> {
    fn read(value: Option<Value>, name: &str) -> Result<Self, Failure> {
        Vec::<Value>::read(value, name)?
            .into_iter()
            .map(|item| word(item, name, EventKind::WORDS))
            .collect()
    }

    fn write(&self) -> Option<Value> {
        (!self.is_empty()).then(|| self.iter().map(|kind| Value::from(kind.as_str())).collect())
    }
}

pub(crate) fn unknown_command() -> Failure {
    Failure::new(ErrorCode::UnknownCommand, "Unknown command")
}
