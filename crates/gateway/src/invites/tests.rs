//! Tokens open what they are for, as often as they may, and that survives.

use clawchat_testkit::Person::{Alice, Bob, Carol};

use super::*;

const TOKEN: InviteToken = InviteToken::new([7; 32]);
const NOW: UnixMillis = UnixMillis(1_000_000);
const END: UnixMillis = UnixMillis(2_000_000);

fn entry(token: &InviteToken, uses: Option<u64>) -> Entry {
    Entry {
        id: file::hex(&token.as_bytes()[..4]),
        digest: token_digest(token.as_bytes()),
        created_at: NOW,
        expires_at: END,
        uses,
        members: Vec::new(),
    }
}

fn with(uses: Option<u64>) -> Invites {
    let invites = Invites::default();
    assert!(invites.add(entry(&TOKEN, uses), NOW));
    invites
}

#[test]
fn an_invite_lets_in_and_the_personal_token_goes_on_after_it() {
    let (invites, bob) = (with(None), Bob.principal());
    let personal = personal_token(&TOKEN, &bob);
    assert_eq!(invites.door(TOKEN.as_bytes(), NOW), Some(Door::Invite));
    assert_eq!(invites.door(personal.as_bytes(), NOW), None, "nobody came yet");
    assert!(invites.admit(TOKEN.as_bytes(), &bob, NOW));
    for now in [NOW, END, UnixMillis(u64::MAX)] {
        assert_eq!(invites.door(personal.as_bytes(), now), Some(Door::Member(bob)));
        assert!(invites.admit(personal.as_bytes(), &bob, now));
        assert!(!invites.admit(personal.as_bytes(), &Carol.principal(), now));
    }
    assert_eq!(invites.door(TOKEN.as_bytes(), END), None, "expired");
    assert!(!invites.admit(TOKEN.as_bytes(), &Carol.principal(), END));
    for nonsense in [&[7; 16][..], &[8; 32], &[]] {
        assert_eq!(invites.door(nonsense, NOW), None);
        assert!(!invites.admit(nonsense, &bob, NOW));
    }
}

#[test]
fn each_principal_counts_as_one_use() {
    let invites = with(Some(2));
    for _ in 0..3 {
        assert!(invites.admit(TOKEN.as_bytes(), &Alice.principal(), NOW));
    }
    assert!(!invites.list()[0].is_used_up());
    assert!(invites.admit(TOKEN.as_bytes(), &Bob.principal(), NOW));
    assert!(!invites.admit(TOKEN.as_bytes(), &Carol.principal(), NOW));
    assert_eq!(invites.door(TOKEN.as_bytes(), NOW), None, "used up");
    assert!(invites.is_member(&Bob.principal()) && !invites.is_member(&Carol.principal()));
}

#[test]
fn what_is_revoked_is_over_for_those_it_let_in() {
    let (invites, bob) = (with(None), Bob.principal());
    invites.admit(TOKEN.as_bytes(), &bob, NOW);
    assert_eq!(invites.revoke("nothing", None), None);
    let revoked = invites.revoke("", Some(&TOKEN)).unwrap();
    assert_eq!(revoked.members[0].principal, bob);
    assert!(!invites.is_member(&bob));
    assert_eq!(invites.door(personal_token(&TOKEN, &bob).as_bytes(), NOW), None);
    assert_eq!(invites.door(TOKEN.as_bytes(), NOW), None);
}

#[test]
fn their_number_is_bounded_and_the_forgotten_ones_make_room() {
    let invites = Invites::default();
    for number in 0..MAX_INVITES {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&number.to_be_bytes());
        assert!(invites.add(entry(&InviteToken::new(bytes), None), NOW));
    }
    assert!(!invites.add(entry(&TOKEN, None), NOW));
    assert!(invites.add(entry(&TOKEN, None), END), "the others have expired");
    assert_eq!(invites.list().len(), 1);
}

#[tokio::test]
async fn uses_survive_and_no_token_is_on_disk() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("invites.json");
    let invites = Invites::load(path.clone()).unwrap();
    assert!(invites.add(entry(&TOKEN, Some(1)), NOW));
    assert!(invites.admit(TOKEN.as_bytes(), &Bob.principal(), NOW));
    invites.settled().await.unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(!text.contains(&file::hex(TOKEN.as_bytes())));

    let again = Invites::load(path.clone()).unwrap();
    assert_eq!(again.list(), invites.list());
    assert!(!again.admit(TOKEN.as_bytes(), &Carol.principal(), NOW));
    let personal = personal_token(&TOKEN, &Bob.principal());
    assert!(again.admit(personal.as_bytes(), &Bob.principal(), END));

    for damaged in [
        "",
        "{}",
        "[]",
        &text[..text.len() / 2],
        &text.replace("\"version\": 1", "\"version\": 2"),
    ] {
        std::fs::write(&path, damaged).unwrap();
        assert!(
            matches!(Invites::load(path.clone()), Err(InvitesFileError::Damaged { .. })),
            "{damaged}"
        );
    }
}

#[tokio::test]
async fn what_was_taken_back_can_be_taken_back_until_that_is_on_disk() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join("home");
    std::fs::create_dir(&home).unwrap();
    let path = home.join("invites.json");
    let invites = Invites::load(path.clone()).unwrap();
    let other = InviteToken::new([8; 32]);
    for token in [TOKEN, other] {
        assert!(invites.add(entry(&token, None), NOW));
    }
    assert!(invites.admit(TOKEN.as_bytes(), &Bob.principal(), NOW));
    invites.settled().await.unwrap();
    let id = invites.list()[0].id.clone();

    std::fs::remove_dir_all(&home).unwrap();
    for (name, token) in [("", Some(&TOKEN)), (id.as_str(), None)] {
        let revoked = invites.revoke(name, token).expect("that is not on disk yet");
        assert_eq!(revoked.members[0].principal, Bob.principal());
        assert!(invites.settled().await.is_err());
        assert_eq!(invites.list().len(), 1);
        assert!(!invites.is_member(&Bob.principal()));
    }

    std::fs::create_dir(&home).unwrap();
    assert!(invites.revoke(&id, None).is_some());
    invites.settled().await.unwrap();
    let kept = Invites::load(path).unwrap().list();
    assert_eq!((kept.len(), kept[0].digest), (1, token_digest(other.as_bytes())));
    assert_eq!(invites.revoke(&id, None), None, "now it is on disk");
}
