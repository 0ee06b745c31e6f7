//! The order in which addresses are tried, and how far their dials overlap.

use super::*;

const PEER: &str = "12D3KooWNZypvL2Um2qCT98FhMAf6mwGzPzFy8E7JsNnM7ipEHJo";
const RELAY: &str = "12D3KooWMtEfANQF1StYpRmm8JyGExkcEjR4Rkj8Ktp1jUEnqqRw";

type Answer = oneshot::Receiver<Result<Connected, DialError>>;

fn direct(host: u8) -> Locator {
    format!("/ip4/192.0.2.{host}/tcp/9000/p2p/{PEER}")
        .parse()
        .unwrap()
}

fn relayed(host: u8) -> Locator {
    format!("/ip4/198.51.100.{host}/tcp/9000/p2p/{RELAY}/p2p-circuit/p2p/{PEER}")
        .parse()
        .unwrap()
}

fn peer() -> libp2p::PeerId {
    PEER.parse().unwrap()
}

fn begin(locators: Vec<Locator>) -> (Dials, Answer) {
    let (reply, answer) = oneshot::channel();
    let mut dials = Dials::default();
    dials.begin(locators, &libp2p::PeerId::random(), reply);
    (dials, answer)
}

/// Dials what is due; where that leads.
fn dialed(dials: &mut Dials) -> Vec<(ConnectionId, Locator)> {
    let tasks = dials.due();
    let begun = tasks.iter().map(|task| match task {
        Task::Dial(opts) => opts.connection_id(),
        Task::Circuit(circuit) => circuit.opts.connection_id(),
        Task::Forget(connection) => panic!("{connection} is forgotten"),
    });
    begun
        .map(|connection| {
            let (call, index) = dials.by_connection[&connection];
            (connection, dials.calls[&call].attempts[index].locator.clone())
        })
        .collect()
}

/// Lets time pass: everything that was to happen comes nearer.
fn pass(dials: &mut Dials, time: Duration) {
    for call in dials.calls.values_mut() {
        call.next_at -= time;
        call.deadline -= time;
    }
}

fn refused() -> Failure {
    Failure::Other("connection refused".to_owned())
}

#[test]
fn addresses_are_tried_in_their_order_with_relays_behind_all_others() {
    let given = vec![relayed(1), direct(1), relayed(2), direct(2)];
    let (mut dials, _answer) = begin(given);
    let mut order = Vec::new();
    for _ in 0..4 {
        order.extend(dialed(&mut dials).into_iter().map(|(_, locator)| locator));
        pass(&mut dials, STAGGER);
    }
    assert_eq!(order, [direct(1), direct(2), relayed(1), relayed(2)]);
}

#[test]
fn the_next_address_waits_a_moment_for_the_one_before_and_then_both_are_under_way() {
    let (mut dials, _answer) = begin(vec![direct(1), direct(2), direct(3)]);
    let begun = Instant::now();
    assert_eq!(dialed(&mut dials).len(), 1);
    let early = dialed(&mut dials).len();
    if begun.elapsed() >= STAGGER {
        // The machine paused in between.
        return the_next_address_waits_a_moment_for_the_one_before_and_then_both_are_under_way();
    }
    assert_eq!(early, 0, "the first one has its moment");
    pass(&mut dials, STAGGER);
    assert_eq!(dialed(&mut dials)[0].1, direct(2));
    assert_eq!(dials.calls[&0].in_flight.len(), 2, "the first one goes on");
}

#[test]
fn an_address_that_fails_does_not_keep_the_next_one_waiting() {
    let (mut dials, _answer) = begin(vec![direct(1), direct(2)]);
    let first = dialed(&mut dials).remove(0).0;
    dials.failed(first, refused());
    assert_eq!(dialed(&mut dials)[0].1, direct(2));
}

#[test]
fn the_first_answer_wins_and_the_other_dials_are_given_up() {
    let (mut dials, mut answer) = begin(vec![direct(1), direct(2), direct(3)]);
    let first = dialed(&mut dials).remove(0).0;
    pass(&mut dials, STAGGER);
    let second = dialed(&mut dials).remove(0).0;
    let tasks = dials.connected(second, peer(), false);
    assert!(
        matches!(tasks[..], [Task::Forget(forgotten)] if forgotten == first),
        "the slow one is given up, the third one never begun"
    );
    assert_eq!(answer.try_recv().unwrap().unwrap().locator, direct(2));
    assert!(dials.due().is_empty() && dials.by_connection.is_empty());
}

#[test]
fn direct_dials_go_on_when_a_relay_was_faster() {
    let (mut dials, mut answer) = begin(vec![direct(1), relayed(1), relayed(2)]);
    dialed(&mut dials);
    pass(&mut dials, STAGGER);
    let circuit = dialed(&mut dials).remove(0).0;
    pass(&mut dials, STAGGER);
    let other = dialed(&mut dials).remove(0).0;
    let tasks = dials.connected(circuit, peer(), true);
    assert!(
        matches!(tasks[..], [Task::Forget(forgotten)] if forgotten == other),
        "only the other circuit is given up"
    );
    assert_eq!(answer.try_recv().unwrap().unwrap().locator, relayed(1));
}

#[test]
fn a_call_ends_in_time_and_says_what_became_of_each_address() {
    let (mut dials, mut answer) = begin(vec![direct(1), direct(2)]);
    let first = dialed(&mut dials).remove(0).0;
    dials.failed(first, refused());
    dialed(&mut dials);
    pass(&mut dials, DIAL_TIMEOUT);
    assert!(matches!(dials.due()[..], [Task::Forget(_)]));
    let Err(DialError::Failed { attempts }) = answer.try_recv().unwrap() else {
        panic!("it failed");
    };
    let reasons: Vec<&str> = attempts.iter().map(|attempt| attempt.reason.as_str()).collect();
    assert_eq!(reasons, ["connection refused", "no answer within 10 s"]);
}

#[test]
fn no_more_addresses_are_tried_than_the_bound() {
    let given = (0..200).map(direct).collect();
    let (mut dials, _answer) = begin(given);
    let mut tried = 0;
    for _ in 0..200 {
        tried += dialed(&mut dials).len();
        let under_way: Vec<ConnectionId> = dials.by_connection.keys().copied().collect();
        for connection in under_way {
            dials.failed(connection, refused());
        }
    }
    assert_eq!(tried, MAX_ADDRESSES);
}
