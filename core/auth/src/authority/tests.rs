//! Who gets in, from where.

use super::*;
use crate::User;
use crate::sasl::{Exchange, Mechanism, Step};
use argon2::PasswordHasher;
use argon2::password_hash::phc::PasswordHash;

fn here() -> Origin {
    Origin {
        loopback: true,
        ..Origin::default()
    }
}

fn argon2_hash(password: &[u8]) -> String {
    let params = argon2::Params::new(64, 1, 1, None).unwrap();
    let argon2 = argon2::Argon2::from(params);
    let hash: PasswordHash = argon2.hash_password(password).unwrap();
    hash.to_string()
}

#[test]
fn guest_is_for_this_machine() {
    let authority = Authority::new(Credentials::guest());
    assert!(matches!(
        authority.password(b"guest", b"guest", &here()),
        Verdict::Now(Ok(principal)) if principal.name() == "guest"
    ));
    assert!(matches!(
        authority.password(b"guest", b"guest", &Origin::default()),
        Verdict::Now(Err(Denied::LoopbackOnly))
    ));
    for (user, password) in [
        (&b"guest"[..], &b"Guest"[..]),
        (b"admin", b"guest"),
        (b"\xff", b""),
    ] {
        assert!(matches!(
            authority.password(user, password, &here()),
            Verdict::Now(Err(Denied::BadCredentials))
        ));
    }
}

#[test]
fn a_hashed_password_is_checked_slowly_once() {
    let mut users = Credentials::new();
    users
        .add("ann", User::argon2("ann", &argon2_hash(b"secret")).unwrap())
        .unwrap();
    let authority = Authority::new(users);
    let Verdict::Slow(check) = authority.password(b"ann", b"wrong", &here()) else {
        panic!("wrong passwords are never known at once")
    };
    assert_eq!(check.run(), Err(Denied::BadCredentials));
    let Verdict::Slow(check) = authority.password(b"ann", b"secret", &here()) else {
        panic!("the first time takes long")
    };
    assert_eq!(check.run(), Ok(Principal::user("ann")));
    assert!(matches!(
        authority.password(b"ann", b"secret", &here()),
        Verdict::Now(Ok(_))
    ));
    // A success remembered does not let another password in.
    assert!(matches!(
        authority.password(b"ann", b"wrong", &here()),
        Verdict::Slow(_)
    ));
    // Unknown users take as long.
    let Verdict::Slow(check) = authority.password(b"bob", b"secret", &here()) else {
        panic!("told at once that there is no bob")
    };
    assert_eq!(check.run(), Err(Denied::BadCredentials));
}

#[test]
fn anonymous_clients_are_let_in_from_this_machine_unless_told_otherwise() {
    let authority = Authority::new(Credentials::new());
    let origin = |loopback, anonymous| Origin {
        loopback,
        anonymous,
        certificate_name: None,
    };
    assert!(authority.anonymous(&origin(true, None)).is_ok());
    assert!(authority.anonymous(&origin(false, None)).is_err());
    assert!(authority.anonymous(&origin(false, Some(true))).is_ok());
    assert!(authority.anonymous(&origin(true, Some(false))).is_err());
}

#[test]
fn bad_hashes_are_refused() {
    for hash in [
        "",
        "secret",
        "$argon2id$v=19$m=64,t=1,p=1$c2FsdHNhbHQ",
        "$2b$12$abc",
    ] {
        assert!(User::argon2("ann", hash).is_err(), "{hash}");
    }
    let mut users = Credentials::guest();
    assert!(users.add("guest", User::plain("x")).is_err());
}

#[test]
fn plain_and_external_follow_their_rfcs() {
    let authority = Authority::new(Credentials::guest());
    let run = |mechanism, message: &[u8], origin: Origin| match Exchange::new(
        mechanism,
        authority.clone(),
        origin,
    )
    .step(message)
    {
        Step::Done { principal, .. } => Ok(principal.name().to_owned()),
        Step::Denied(denied) => Err(denied),
        other => panic!("{other:?}"),
    };
    let plain = |message: &[u8]| run(Mechanism::Plain, message, here());
    assert_eq!(plain(b"\0guest\0guest"), Ok("guest".to_owned()));
    assert_eq!(plain(b"guest\0guest\0guest"), Ok("guest".to_owned()));
    assert_eq!(plain(b"root\0guest\0guest"), Err(Denied::OtherIdentity));
    assert!(matches!(plain(b"guest\0guest"), Err(Denied::Malformed(_))));
    assert!(matches!(
        plain(b"\0guest\0gue\0st"),
        Err(Denied::Malformed(_))
    ));

    let certified = Origin {
        certificate_name: Some("CN=ann".to_owned()),
        ..Origin::default()
    };
    assert_eq!(
        run(Mechanism::External, b"", certified),
        Ok("CN=ann".to_owned())
    );
    assert_eq!(
        run(Mechanism::External, b"", here()),
        Err(Denied::NoCertificate)
    );
}
