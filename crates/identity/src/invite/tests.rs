//! Invites: each thing that can be wrong is told apart.

use std::sync::LazyLock;
use std::time::Duration;

use proptest::prelude::*;

use super::*;

#[test]
fn spans_of_time_are_told_as_people_tell_them() {
    let told = [1, 119, 120, 7_199, 7_200, 172_799, 172_800, 864_000].map(span);
    assert_eq!(
        told,
        [
            "1 s",
            "119 s",
            "2 minutes",
            "119 minutes",
            "2 hours",
            "47 hours",
            "2 days",
            "10 days"
        ]
    );
}
use crate::contact_card::CardDetails;
use crate::identity::Identity;

const NOW: UnixSeconds = UnixSeconds(1_767_225_600);
const DAY: Duration = Duration::from_secs(86_400);
const TOKEN: InviteToken = InviteToken::new([7; 32]);

static ALICE: LazyLock<Identity> =
    LazyLock::new(|| Identity::generate(Network::Testnet, None, [1; 32], [2; 32]).unwrap());

fn card() -> ContactCard<Verified> {
    let details = CardDetails {
        locators: vec!["/ip4/192.0.2.1/tcp/9000".parse().unwrap()],
        ..CardDetails::default()
    };
    ContactCard::create(
        ALICE.node_key(),
        ALICE.attest(NOW, DAY, [6; 32]),
        details,
        NOW,
        DAY,
    )
    .unwrap()
}

fn text(token: Option<InviteToken>) -> String {
    Invite::new(card(), token).to_text()
}

fn read(text: &str) -> Result<Invite<Verified>, InviteError> {
    Invite::from_text(text)?.verify(Network::Testnet, NOW)
}

#[test]
fn invites_with_and_without_a_token_survive_the_line() {
    for token in [None, Some(TOKEN)] {
        let line = text(token);
        let invite = read(&line).unwrap();
        assert_eq!((invite.card(), invite.token().copied()), (&card(), token));
        assert_eq!(invite.to_text(), line);
        // As a mail program may wrap it.
        let (head, tail) = line.split_at(60);
        assert_eq!(read(&format!("  {head}\r\n {tail}\n")), Ok(invite));
    }
    assert_eq!(text(None), card().to_invite());
}

#[test]
fn a_line_cut_anywhere_is_cut_short() {
    for token in [None, Some(TOKEN)] {
        let line = text(token);
        for end in INVITE_PREFIX.len()..line.len() {
            assert_eq!(read(&line[..end]), Err(InviteError::Truncated), "cut at {end}");
        }
        for end in 0..INVITE_PREFIX.len() {
            assert_eq!(read(&line[..end]), Err(InviteError::Foreign), "cut at {end}");
        }
    }
}

#[test]
fn each_cause_has_its_own_error() {
    let line = text(Some(TOKEN));
    assert_eq!(read("https://example.org"), Err(InviteError::Foreign));
    assert_eq!(read(&line.replace('.', ":")), Err(InviteError::Character));
    assert_eq!(read(&format!("{line}ä")), Err(InviteError::Character));
    assert_eq!(
        read(&format!("clawchat:{}", "A".repeat(30_000))),
        Err(InviteError::TooLong)
    );
    assert_eq!(read(&"A".repeat(100_000)), Err(InviteError::TooLong));

    let mut other = line.clone().into_bytes();
    other[INVITE_PREFIX.len() + 3] ^= 1;
    assert_eq!(read(&String::from_utf8(other).unwrap()), Err(InviteError::Token));
    let (_, card_text) = line.split_once('.').unwrap();
    assert_eq!(
        read(&format!("clawchat:AAAA.{card_text}")),
        Err(InviteError::Token)
    );
    assert_eq!(read(&format!("clawchat:.{card_text}")), Err(InviteError::Token));

    // Changed within the signed part, without a token to notice it first.
    let mut bytes = card().to_bytes();
    let at = bytes
        .windows(9)
        .position(|window| window == b"192.0.2.1")
        .unwrap();
    bytes[at + 8] = b'7';
    let forged = format!("clawchat:{}", BASE64URL_NOPAD.encode(&bytes));
    assert_eq!(read(&forged), Err(InviteError::Forged(CardError::Signature)));
    let other_thing = format!("clawchat:{}", BASE64URL_NOPAD.encode(&[0x60; 100]));
    assert!(matches!(read(&other_thing), Err(InviteError::Card(_))));

    let invite = || Invite::from_text(&line).unwrap();
    assert_eq!(
        invite().verify(Network::Mainnet, NOW),
        Err(InviteError::WrongNetwork {
            expected: Network::Mainnet
        })
    );
    let late = UnixSeconds(NOW.0 + 86_400 + 300);
    assert_eq!(
        invite().verify(Network::Testnet, late),
        Err(InviteError::Expired { secs_ago: 300 })
    );
    let early = UnixSeconds(NOW.0 - 400);
    assert_eq!(
        invite().verify(Network::Testnet, early),
        Err(InviteError::NotYetValid { secs_ahead: 400 })
    );
}

#[test]
fn personal_tokens_differ_by_invite_and_by_principal() {
    let alice = ALICE.principal();
    let bob = Principal::from_hash160(Network::Testnet, [9; 20]);
    let all = [
        TOKEN,
        personal_token(&TOKEN, alice),
        personal_token(&TOKEN, &bob),
        personal_token(&InviteToken::new([8; 32]), alice),
    ];
    for (index, token) in all.iter().enumerate() {
        assert!(!all[..index].contains(token));
        assert_ne!(&token_digest(token.as_bytes()), token.as_bytes());
    }
    assert_eq!(format!("{TOKEN:?}"), "InviteToken(…)");
}

proptest! {
    #[test]
    fn arbitrary_text_never_panics(text in ".{0,200}", code in "[A-Za-z0-9_.-]{0,300}") {
        prop_assert!(Invite::from_text(&text).is_err());
        let invite = format!("clawchat:{code}");
        prop_assert!(Invite::from_text(&invite).is_err());
    }

    #[test]
    fn a_changed_character_never_holds(at in 9_usize..1000, to in "[A-Za-z0-9_-]") {
        let line = text(Some(TOKEN));
        let at = 9 + (at - 9) % (line.len() - 9);
        let changed = format!("{}{to}{}", &line[..at], &line[at + 1..]);
        if changed != line {
            prop_assert!(read(&changed).is_err());
        }
    }
}
