//! Ways to get more than one's share, each against an honest twin of the same demand: none gains.

use super::server::{Fair, Job, Server};
use super::*;

const CHEAT: usize = 0;
const HONEST: usize = 1;
const WINDOW: u64 = 2000;
const STEPS: usize = 4000;

fn job(tenant: usize) -> Job {
    let (reserved, output) = (100, 100);
    Job { tenant, session: 0, uncached: 100, cached: 0, reserved, output, patience: None }
}

/// Runs with one honest tenant that always has a few requests waiting, and the other as told.
fn against_honest(mut cheat: impl FnMut(usize, &Server<Fair>) -> Vec<Job>) -> Server<Fair> {
    let mut server = Server::new(Fair::new(Settings::DEFAULT), &[1, 1], WINDOW);
    for step in 0..STEPS {
        let mut arriving = cheat(step, &server);
        arriving.extend((server.waiting(HONEST) < 20).then(|| [job(HONEST); 20]).into_iter().flatten());
        server.step(arriving);
    }
    server
}

/// Keeps so many waiting.
fn keeps(server: &Server<Fair>, most: usize, make: impl FnMut(usize) -> Job) -> Vec<Job> {
    (server.waiting(CHEAT)..most).map(make).collect()
}

fn share(server: &Server<Fair>, since: usize) -> f64 {
    let (cheat, honest) = (server.served_since(since, CHEAT), server.served_since(since, HONEST));
    cheat as f64 / (cheat + honest) as f64
}

/// What a share is at most where nothing is gained: half, and 2U over all that was served.
fn fair_share(server: &Server<Fair>, since: usize) -> f64 {
    let all = server.served_since(since, CHEAT) + server.served_since(since, HONEST);
    0.5 + server.unit() / all as f64
}

#[test]
fn a_thousand_sessions_get_one_tenants_share() {
    let many = against_honest(|step, server| {
        keeps(server, 1000, |turn| Job { session: (step * 1000 + turn) as u64 % 1000, ..job(CHEAT) })
    });
    let twin = against_honest(|_, server| keeps(server, 20, |_| job(CHEAT)));
    let (gained, honest) = (share(&many, 0), share(&twin, 0));
    println!("share {gained:.4}, of the twin {honest:.4}");
    assert!((gained - honest).abs() < 0.005 && gained <= fair_share(&many, 0));
}

#[test]
fn who_was_idle_and_bursts_gets_what_a_newcomer_gets() {
    const RETURN: usize = 3000;
    let before = |step: usize| step < 20;
    let idle = against_honest(|step, server| {
        if before(step) || step >= RETURN { keeps(server, 300, |_| job(CHEAT)) } else { Vec::new() }
    });
    let twin = against_honest(
        |step, server| {
            if step >= RETURN { keeps(server, 300, |_| job(CHEAT)) } else { Vec::new() }
        },
    );
    let soon = |server: &Server<Fair>| {
        let served = |tenant| server.delivered[RETURN + 200][tenant] - server.delivered[RETURN][tenant];
        (served(CHEAT), served(HONEST))
    };
    println!("after the return {:?}, of a newcomer {:?}", soon(&idle), soon(&twin));
    assert!(share(&idle, RETURN) <= share(&twin, RETURN) + 0.005);
    let (burst, honest) = soon(&idle);
    assert!(burst as f64 <= honest as f64 + 2.0 * idle.unit(), "{burst} against {honest}");
}

#[test]
fn a_tiny_prompt_with_a_huge_answer_is_charged_for_the_answer() {
    // It reserves a tenth of what it takes, as a tenant whose past answers were short would.
    let huge = |_| Job { uncached: 1, reserved: 100, output: 1000, ..job(CHEAT) };
    let sly = against_honest(|_, server| keeps(server, 20, huge));
    let twin = against_honest(|_, server| keeps(server, 20, |_| job(CHEAT)));
    println!("share {:.4}, of the twin {:.4}", share(&sly, 0), share(&twin, 0));
    assert!(share(&sly, 0) <= fair_share(&sly, 0));
    let answers = |server: &Server<Fair>| server.served_since(0, CHEAT);
    assert!(answers(&sly) <= answers(&twin) + 2 * sly.unit() as u64);
}

#[test]
fn to_cancel_and_try_again_gains_nothing() {
    // Half of them lose patience while waiting; all reserve ten times what they take and end early.
    let sly = against_honest(|step, server| {
        keeps(server, 40, |turn| Job {
            reserved: 1000,
            output: 100,
            patience: (turn % 2 == 0).then_some(5),
            session: step as u64,
            ..job(CHEAT)
        })
    });
    let twin = against_honest(|_, server| keeps(server, 40, |_| job(CHEAT)));
    println!("share {:.4}, of the twin {:.4}", share(&sly, 0), share(&twin, 0));
    assert!(share(&sly, 0) <= fair_share(&sly, 0) && share(&sly, 0) <= share(&twin, 0) + 0.005);
}

#[test]
fn to_hold_a_reservation_until_others_catch_up_and_then_free_it_gains_nothing() {
    // Two long requests are held while it is away; it comes back as they end, far below what they reserved.
    let period = |step: usize| step % 400;
    let held = against_honest(|step, server| match period(step) {
        0 => vec![Job { reserved: 900, output: 800, ..job(CHEAT) }; 2],
        90.. => keeps(server, 20, |_| job(CHEAT)),
        _ => Vec::new(),
    });
    let twin = against_honest(|step, server| match period(step) {
        0 => vec![Job { reserved: 800, output: 800, ..job(CHEAT) }; 2],
        90.. => keeps(server, 20, |_| job(CHEAT)),
        _ => Vec::new(),
    });
    println!("share {:.4}, of the twin {:.4}", share(&held, 0), share(&twin, 0));
    assert!(share(&held, 0) <= share(&twin, 0) + 0.01);
    assert!(held.worst_against_backlogged() <= 4.0 * held.unit());
}

#[test]
fn who_fills_the_queue_leaves_room_for_others() {
    let mut queue = FairQueue::new(Settings { items_max: 100, bytes_max: 10_000, ..Settings::DEFAULT });
    let mut refused = 0;
    while queue.enqueue(at(1), ask(1), ()).is_ok() {
        refused += 1;
    }
    assert_eq!((refused, queue.len()), (50, 50));
    assert!(matches!(queue.enqueue(at(1), ask(1), ()), Err(((), Refused::Crowded))));
    let large = Ask { bytes: 6000, ..ask(2) };
    put(&mut queue, at(1), large, ());
    assert!(matches!(queue.enqueue(at(1), large, ()), Err(((), Refused::Full))), "bytes are bounded too");
    for tenant in 3..52 {
        put(&mut queue, at(1), ask(tenant), ());
    }
    assert!(matches!(queue.enqueue(at(1), ask(99), ()), Err(((), Refused::Full))));
    assert_eq!((queue.counts().refused_crowded, queue.counts().refused_full), (2, 2));
}
