//! Choices that look random from outside and are the same every time for the same seed.

/// Mixes a seed with some bytes into 64 bits (FNV-1a, then the finalizer of SplitMix64). Whoever does not know the
/// seed cannot tell which of two inputs comes first.
pub(crate) fn rank(seed: u64, parts: &[&[u8]]) -> u64 {
    let mut state = seed ^ 0xcbf2_9ce4_8422_2325;
    for part in parts {
        for byte in *part {
            state = (state ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        state = mix(state ^ seed.rotate_left(32));
    }
    state
}

fn mix(mut state: u64) -> u64 {
    state = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    state = (state ^ (state >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    state ^ (state >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn seeds_and_inputs_make_a_difference_and_nothing_else_does() {
        let all: BTreeSet<u64> = (0..20_u64)
            .flat_map(|seed| (0..100_u8).map(move |byte| rank(seed, &[&[byte], b"x"])))
            .collect();
        assert_eq!(all.len(), 2000);
        assert_eq!(rank(7, &[b"ab", b"c"]), rank(7, &[b"ab", b"c"]));
        assert_ne!(rank(7, &[b"ab", b"c"]), rank(7, &[b"a", b"bc"]));
    }
}
