//! How much is kept.

use std::time::Duration;

/// How much is kept of one channel. Whatever is exceeded first, the oldest arrivals go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChannelQuota {
    /// Most entries.
    pub entries: u64,
    /// Most bytes, by [`NewEntry::size`](crate::NewEntry::size).
    pub bytes: u64,
    /// How long after its receipt an entry is kept; none for ever.
    pub age: Option<Duration>,
}

/// How much is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogQuota {
    /// Of each channel followed here. Default: 1,000,000 entries, 1 GiB, any age.
    pub followed: ChannelQuota,
    /// Of each channel kept for others. Default: 100,000 entries, 128 MiB, 30 days.
    pub kept: ChannelQuota,
    /// Of all channels together, in bytes. Default 4 GiB. Channels kept for others go first.
    pub total_bytes: u64,
}

impl Default for LogQuota {
    fn default() -> Self {
        Self {
            followed: ChannelQuota {
                entries: 1_000_000,
                bytes: 1024 * 1024 * 1024,
                age: None,
            },
            kept: ChannelQuota {
                entries: 100_000,
                bytes: 128 * 1024 * 1024,
                age: Some(Duration::from_secs(30 * 24 * 60 * 60)),
            },
            total_bytes: 4 * 1024 * 1024 * 1024,
        }
    }
}

impl LogQuota {
    /// What holds for a channel.
    pub(crate) fn of(&self, followed: bool) -> &ChannelQuota {
        if followed { &self.followed } else { &self.kept }
    }
}
