//! The 24 words a wallet is made from (BIP-39, English).

use std::fmt;
use std::str::FromStr;

use bip39::Language;
use zeroize::Zeroizing;

/// Words in every mnemonic of ours. BIP-39 knows shorter ones; they are refused.
pub const MNEMONIC_WORDS: usize = 24;
/// Longest phrase, in bytes: no English word has more than 8 letters.
const MAX_PHRASE_BYTES: usize = MNEMONIC_WORDS * 9;

/// A checked BIP-39 mnemonic of 24 English words. Zeroized on drop; [`fmt::Debug`] shows nothing of it.
#[derive(Clone)]
pub struct Mnemonic {
    words: Zeroizing<String>,
}

impl Mnemonic {
    /// The words that stand for 32 bytes of entropy.
    #[must_use]
    pub fn from_entropy(entropy: [u8; 32]) -> Self {
        let entropy = Zeroizing::new(entropy);
        let mut words = Zeroizing::new(String::with_capacity(MAX_PHRASE_BYTES));
        // Fails for lengths other than BIP-39's only; 32 bytes is one of them.
        for word in bip39::Mnemonic::from_entropy_in(Language::English, entropy.as_slice())
            .iter()
            .flat_map(bip39::Mnemonic::words)
        {
            if !words.is_empty() {
                words.push(' ');
            }
            words.push_str(word);
        }
        Self { words }
    }

    /// The words, lower case, one space between them. Show them to their owner only.
    #[must_use]
    pub fn expose_words(&self) -> &str {
        &self.words
    }

    /// The BIP-39 seed, without a passphrase.
    pub(crate) fn seed(&self) -> Result<Zeroizing<[u8; 64]>, MnemonicError> {
        Ok(Zeroizing::new(parse(&self.words)?.to_seed_normalized("")))
    }
}

impl FromStr for Mnemonic {
    type Err = MnemonicError;

    /// Reads exactly the form [`Mnemonic::expose_words`] has: whoever reads a file or a prompt trims it.
    fn from_str(text: &str) -> Result<Self, MnemonicError> {
        parse(text)?;
        Ok(Self {
            words: Zeroizing::new(text.to_owned()),
        })
    }
}

impl fmt::Debug for Mnemonic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Mnemonic(…)")
    }
}

fn parse(text: &str) -> Result<bip39::Mnemonic, MnemonicError> {
    let count = text.split_whitespace().count();
    if count != MNEMONIC_WORDS {
        return Err(MnemonicError::WordCount { found: count });
    }
    if !text.split(' ').eq(text.split_whitespace()) {
        return Err(MnemonicError::Spacing);
    }
    bip39::Mnemonic::parse_in_normalized(Language::English, text).map_err(|error| match error {
        bip39::Error::UnknownWord(index) => MnemonicError::UnknownWord { position: index + 1 },
        bip39::Error::BadWordCount(found) => MnemonicError::WordCount { found },
        bip39::Error::BadEntropyBitCount(_)
        | bip39::Error::InvalidChecksum
        | bip39::Error::AmbiguousLanguages(_) => MnemonicError::Checksum,
    })
}

/// Why a text is not a mnemonic of ours. Never holds any of its words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MnemonicError {
    /// It does not have 24 words.
    #[error("a seed phrase has {MNEMONIC_WORDS} words, this one has {found}")]
    WordCount {
        /// How many words it has.
        found: usize,
    },
    /// The words are not separated by exactly one space each.
    #[error("write the words of a seed phrase with one space between them and nothing around them")]
    Spacing,
    /// A word is not in the English list. Words are written in lower case.
    #[error("word {position} of the seed phrase is not in the BIP-39 list (all lower case)")]
    UnknownWord {
        /// Which word, counted from 1.
        position: usize,
    },
    /// Every word exists, but not in this order.
    #[error("the checksum of the seed phrase is wrong: a word was replaced or moved")]
    Checksum,
}
