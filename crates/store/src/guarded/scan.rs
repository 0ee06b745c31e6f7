//! Is everything there that was acknowledged?

use super::engine::{Engine, EngineError};
use super::extents::{Extent, ExtentFile, Space};
use super::high_water::Mark;
use super::layout::{Layout, META_KEY, Tree};
use super::meta::Meta;
use crate::record::RecordError;
use crate::sealed::{Keys, Place, UnsealError};

/// Reads the state the database says it is in, and compares it with the mark.
pub(crate) fn state(layout: &Layout, engine: &Engine, keys: &Keys, mark: &Mark) -> Result<Meta, EngineError> {
    let damaged = |what: &str| EngineError::Damaged(what.to_owned());
    let value = engine
        .get(layout.meta(), META_KEY)?
        .ok_or_else(|| damaged("its state is missing"))?;
    let place = Place {
        tree: layout.meta().name(),
        key: META_KEY,
        context: &[],
    };
    let bytes = keys.unseal(&place, &value).map_err(|error| match error {
        UnsealError::Newer(_) => damaged("its state was written by a newer clawchatd"),
        UnsealError::Broken => damaged("its state is not what was written"),
    })?;
    let meta = Meta::decode(layout, &bytes)
        .map_err(|RecordError(what)| EngineError::Damaged(format!("its state {what}")))?;
    if meta.commit < mark.commit {
        return Err(EngineError::Damaged(format!(
            "its end is missing: {} commits were acknowledged, it has {}",
            mark.commit, meta.commit
        )));
    }
    if meta.commit == mark.commit && (meta.digest != mark.digest || meta.counts != mark.counts) {
        return Err(damaged("it is not in the state that was acknowledged"));
    }
    Ok(meta)
}

/// The ends of the numbered trees: cheap, and never wrong.
pub(crate) fn ends(layout: &Layout, engine: &Engine, meta: &Meta) -> Result<(), EngineError> {
    for tree in layout.numbered.iter().copied() {
        let count = meta.count(tree);
        for number in [1, count] {
            if count > 0 && engine.get(tree, &number.to_be_bytes())?.is_none() {
                return Err(missing(tree, number));
            }
        }
        let next = count.saturating_add(1).to_be_bytes();
        if engine.range(tree, &next, None)?.next().transpose()?.is_some() {
            return Err(EngineError::Damaged(format!(
                "\"{}\" has more entries than it should",
                tree.name()
            )));
        }
    }
    Ok(())
}

/// Which slots of file `extents` are in use. No two values share one.
pub(crate) fn space(layout: &Layout, engine: &Engine, keys: &Keys) -> Result<Space, EngineError> {
    let mut space = Space::default();
    for tree in layout.extents.iter().copied() {
        for row in engine.range(tree, &[], None)? {
            let (key, value) = row?;
            let extent = extent(keys, tree, &key, &value)?;
            if !space.mark(extent.slot, extent.slots()) {
                return Err(EngineError::Damaged(format!(
                    "two values lie in slot {} of the extents",
                    extent.slot
                )));
            }
        }
    }
    Ok(space)
}

/// Every key and every value: numbers without gaps, counts as noted, digest as noted; what lies in extents is there.
pub(crate) fn everything(
    layout: &Layout,
    engine: &Engine,
    keys: &Keys,
    extents: Option<&ExtentFile>,
    meta: &Meta,
) -> Result<(), EngineError> {
    let mut found = Meta::empty(layout);
    for tree in layout.counted().iter().copied() {
        let numbered = layout.numbered.contains(&tree);
        for row in engine.range(tree, &[], None)? {
            let (key, value) = row?;
            found.add(tree, &value);
            if let Some(file) = extents.filter(|_| layout.in_extents(tree)) {
                let extent = extent(keys, tree, &key, &value)?;
                file.read(keys, tree, &key, &extent)?;
            }
            if numbered && key.as_ref() != found.count(tree).to_be_bytes() {
                return Err(missing(tree, found.count(tree)));
            }
        }
        if found.count(tree) != meta.count(tree) {
            return Err(EngineError::Damaged(format!(
                "\"{}\" has {} entries instead of {}",
                tree.name(),
                found.count(tree),
                meta.count(tree)
            )));
        }
    }
    if found.digest != meta.digest {
        return Err(EngineError::Damaged(
            "some of its values are not the latest that were written".to_owned(),
        ));
    }
    Ok(())
}

/// Where a value lies.
fn extent(keys: &Keys, tree: Tree, key: &[u8], value: &[u8]) -> Result<Extent, EngineError> {
    let place = Place {
        tree: tree.name(),
        key,
        context: &[],
    };
    let bytes = keys.unseal(&place, value).ok();
    bytes
        .and_then(|bytes| Extent::from_bytes(&bytes))
        .ok_or_else(|| EngineError::Damaged(format!("a value in \"{}\" leads nowhere", tree.name())))
}

fn missing(tree: Tree, number: u64) -> EngineError {
    EngineError::Damaged(format!("number {number} of \"{}\" is missing", tree.name()))
}
