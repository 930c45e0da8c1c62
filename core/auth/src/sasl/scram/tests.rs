//! The RFC's vectors, and what must not pass.

use super::*;
use crate::{Credentials, User};
use proptest::prelude::*;

fn authority() -> Authority {
    let mut users = Credentials::guest();
    users.add("user", User::plain("pencil")).unwrap();
    Authority::new(users)
}

/// RFC 7677, section 3.
#[test]
fn the_rfc_example_is_answered_to_the_byte() {
    let salt = STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
    let keys = Keys::derive(Hash::Sha256, b"pencil", &salt);
    let nonce = "rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
    let scram = Scram::new(Hash::Sha256);
    let step = scram.last(
        format!("c=biws,r={nonce},p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=").as_bytes(),
        Pending {
            keys,
            outcome: Ok(Principal::user("user")),
            nonce: nonce.to_owned(),
            binding: "biws".to_owned(),
            client_first_bare: "n=user,r=rOprNGfwEbeRWgbNEkqO".to_owned(),
            server_first: format!("r={nonce},s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"),
        },
    );
    let Ok(Step::Done { principal, last }) = step else {
        panic!("{step:?}")
    };
    assert_eq!(principal.name(), "user");
    assert_eq!(last, b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
}

/// Plays the client; says how it ends.
fn log_in(hash: Hash, user: &str, password: &str, origin: &Origin) -> Step {
    log_in_with_nonce(hash, user, password, origin, |nonce| nonce.to_owned())
}

/// The same with a client that changes the nonce which it repeats.
fn log_in_with_nonce(
    hash: Hash,
    user: &str,
    password: &str,
    origin: &Origin,
    repeat: impl Fn(&str) -> String,
) -> Step {
    let authority = authority();
    let mut scram = Scram::new(hash);
    let bare = format!("n={user},r=abc");
    let first = scram.step(format!("n,,{bare}").as_bytes(), &authority, origin);
    let Step::Challenge(challenge) = first else {
        return first;
    };
    let challenge = String::from_utf8(challenge).unwrap();
    let mut parts = challenge.split(',');
    let nonce = parts.next().unwrap();
    let salt = parts.next().unwrap().strip_prefix("s=").unwrap();
    let salted = hash.salted(
        password.as_bytes(),
        &STANDARD.decode(salt).unwrap(),
        ITERATIONS,
    );
    let client_key = hash.hmac(&salted, b"Client Key");
    let nonce = repeat(nonce.strip_prefix("r=").unwrap());
    let without_proof = format!("c=biws,r={nonce}");
    let signed = format!("{bare},{challenge},{without_proof}");
    let signature = hash.hmac(&hash.digest(&client_key), signed.as_bytes());
    let proof: Vec<u8> = client_key
        .iter()
        .zip(&signature)
        .map(|(a, b)| a ^ b)
        .collect();
    let last = format!("{without_proof},p={}", STANDARD.encode(proof));
    let step = scram.step(last.as_bytes(), &authority, origin);
    if let Step::Done { last, .. } = &step {
        let expected = hash.hmac(&hash.hmac(&salted, b"Server Key"), signed.as_bytes());
        assert_eq!(
            *last,
            format!("v={}", STANDARD.encode(expected)).into_bytes()
        );
    }
    step
}

#[test]
fn the_right_password_gets_in_with_either_hash() {
    let origin = Origin::default();
    for hash in [Hash::Sha256, Hash::Sha512] {
        assert!(matches!(
            log_in(hash, "user", "pencil", &origin),
            Step::Done { .. }
        ));
        assert!(matches!(
            log_in(hash, "user", "pencils", &origin),
            Step::Denied(Denied::BadCredentials)
        ));
        assert!(matches!(
            log_in(hash, "nobody", "pencil", &origin),
            Step::Denied(Denied::BadCredentials)
        ));
    }
}

/// librdkafka before 2.6.1 repeats its own nonce twice.
#[test]
fn a_nonce_repeated_once_too_often_passes_and_another_does_not() {
    let log_in = |repeat: fn(&str) -> String| {
        log_in_with_nonce(Hash::Sha256, "user", "pencil", &Origin::default(), repeat)
    };
    assert!(matches!(
        log_in(|nonce| format!("abc{nonce}")),
        Step::Done { .. }
    ));
    for repeat in [
        |nonce: &str| format!("{nonce}x"),
        |_: &str| "abc".to_owned(),
    ] {
        assert!(matches!(log_in(repeat), Step::Denied(Denied::Malformed(_))));
    }
}

#[test]
fn guest_gets_in_from_this_machine_only() {
    let here = Origin {
        loopback: true,
        ..Origin::default()
    };
    assert!(matches!(
        log_in(Hash::Sha256, "guest", "guest", &here),
        Step::Done { .. }
    ));
    assert!(matches!(
        log_in(Hash::Sha256, "guest", "guest", &Origin::default()),
        Step::Denied(Denied::LoopbackOnly)
    ));
}

#[test]
fn an_unknown_user_keeps_its_salt() {
    let authority = authority();
    let salts = |user: &str| {
        authority
            .scram_keys(Hash::Sha256, user, &Origin::default())
            .0
            .salt
    };
    assert_eq!(salts("nobody"), salts("nobody"));
    assert_ne!(salts("nobody"), salts("somebody"));
}

#[test]
fn channel_binding_and_other_identities_are_refused() {
    for first in [
        "p=tls-unique,,n=user,r=x",
        "n,a=other,n=user,r=x",
        "n,,n=us=2Xer,r=x",
        "n,,n=user,r=",
    ] {
        let mut scram = Scram::new(Hash::Sha256);
        let step = scram.step(first.as_bytes(), &authority(), &Origin::default());
        assert!(matches!(step, Step::Denied(_)), "{first}");
    }
}

proptest! {
    #[test]
    fn any_bytes_are_refused_without_a_panic(
        messages in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..80), 1..4),
    ) {
        let authority = authority();
        let mut scram = Scram::new(Hash::Sha256);
        for message in messages {
            let step = scram.step(&message, &authority, &Origin::default());
            let got_in = matches!(step, Step::Done { .. });
            prop_assert!(!got_in);
        }
    }
}
