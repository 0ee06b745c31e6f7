//! Names of files, and what the trees of a database are.

/// Says which format the folder has. Written once.
pub(crate) const FORMAT_FILE: &str = "format";
/// Says how far acknowledged writes went.
pub(crate) const HIGH_WATER_FILE: &str = "high-water";
/// Says that the store was closed in order, and what its files looked like then.
pub(crate) const CLEAN_FILE: &str = "clean";
/// What is too large for the engine. Only of layouts with [`Layout::extents`].
pub(crate) const EXTENTS_FILE: &str = "extents";
/// The engine's folder.
pub(crate) const ENGINE_FOLDER: &str = "sled";
/// The engine's main file, in its folder.
pub(crate) const ENGINE_FILE: &str = "db";
/// The engine's settings, in its folder. Written once.
pub(crate) const ENGINE_SETTINGS: &str = "conf";
/// How the names of the engine's snapshots begin.
pub(crate) const SNAPSHOT_PREFIX: &str = "snap.";
/// How the name of a snapshot ends that the engine had not finished.
pub(crate) const UNFINISHED_SUFFIX: &str = ".generating";
/// Added to the store's own name for the copy it is examined on.
pub(crate) const CHECK_SUFFIX: &str = ".check";
/// Added to the store's own name while it is being made.
pub(crate) const CREATING_SUFFIX: &str = ".creating";

/// The engine's allocation unit, in bytes. Part of the format.
pub(crate) const SEGMENT_BYTES: usize = 512 * 1024;
/// Longest piece of a record in one value, in bytes. The engine puts pages above a quarter of a segment into
/// files that it never syncs; a page has at most 20 values (16 and a split or merge under way).
pub(crate) const PIECE_BYTES: usize = 6 * 1024;

/// The only key of a database's tree `meta`.
pub(crate) const META_KEY: &[u8] = b"state";

/// A tree of a database. Number and name are part of its format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tree {
    number: u8,
    name: &'static str,
}

/// What a database consists of.
#[derive(Debug)]
pub(crate) struct Layout {
    /// Its trees by number. The last one is `meta`, which holds its state under [`META_KEY`].
    pub(crate) trees: &'static [Tree],
    /// Trees whose keys are the numbers 1, 2, 3… without gaps.
    pub(crate) numbered: &'static [Tree],
    /// Trees whose values lie in file `extents`; the engine holds where.
    pub(crate) extents: &'static [Tree],
    /// The tree for what does not fit into one value.
    pub(crate) pieces: Tree,
    /// What its keys are derived for.
    pub(crate) label: &'static [u8],
    /// The format this build writes, and the newest it reads. What an older one looked like can still be read.
    pub(crate) version: u32,
    /// Memory for cached pages, in bytes; at least 256 pages are kept whatever they take.
    pub(crate) cache_bytes: u64,
}

impl Tree {
    pub(crate) const fn new(number: u8, name: &'static str) -> Self {
        Self { number, name }
    }

    pub(crate) fn name(self) -> &'static str {
        self.name
    }

    pub(crate) fn number(self) -> usize {
        usize::from(self.number)
    }
}

impl Layout {
    pub(crate) fn meta(&self) -> Tree {
        self.trees.last().copied().unwrap_or(self.pieces)
    }

    /// Whether the values of a tree lie in file `extents`.
    pub(crate) fn in_extents(&self, tree: Tree) -> bool {
        self.extents.contains(&tree)
    }

    /// Trees that are counted and digested: all but `meta`.
    pub(crate) fn counted(&self) -> &'static [Tree] {
        self.trees.split_last().map_or(&[], |(_, counted)| counted)
    }
}

/// The key of one piece of a large record.
pub(crate) fn piece(owner: Tree, key: &[u8], number: u32) -> Vec<u8> {
    let mut piece = Vec::with_capacity(key.len() + 5);
    piece.push(owner.number);
    piece.extend_from_slice(key);
    piece.extend_from_slice(&number.to_be_bytes());
    piece
}
