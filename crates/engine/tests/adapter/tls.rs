//! TLS with client certificates: only the configured CA counts, for them and for us.

use std::fs;

use dovetail_engine::{ConnectError, Endpoint, Engine, Role, Tls, TlsError};
use swarm::{Class, Read};

use crate::certificates::Authority;
use crate::fake::Fake;
use crate::{PATIENT, patient};

#[tokio::test]
async fn an_engine_of_our_ca_is_asked_at_its_address() {
    let ours = Authority::new();
    let fake = Fake::on_tls(&ours, &ours, |directory| ours.bundle(directory.path(), &ours)).await;
    let engine = patient(&fake);
    for _ in 0..3 {
        engine.services().await.unwrap();
    }
    assert_eq!(engine.traffic().connections, 1);
    assert!(engine.traffic().bytes_received > 0);
    assert_eq!(fake.lines()[0], "GET /v1.41/services?status=true");
}

#[tokio::test]
async fn an_engine_of_another_ca_is_refused() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let fake = Fake::on_tls(&theirs, &ours, |directory| ours.bundle(directory.path(), &ours)).await;
    let error = patient(&fake).services().await.unwrap_err();
    assert_eq!(error.class, Class::Unreachable);
    // Both call themselves the same, so it is the signature that tells.
    assert!(error.message.contains("invalid peer certificate: BadSignature"), "{error}");
    assert_eq!(fake.requests().len(), 0);
}

#[tokio::test]
async fn an_engine_with_another_name_is_refused() {
    let ours = Authority::new();
    let bundle = |directory: &tempfile::TempDir| ours.bundle(directory.path(), &ours);
    let fake = Fake::on_tls_for(&["manager.example.org", "127.0.0.2"], &ours, &ours, bundle).await;
    let error = patient(&fake).services().await.unwrap_err();
    assert_eq!(error.class, Class::Unreachable);
    assert!(error.message.contains("not valid for name \"127.0.0.1\""), "{error}");
    assert_eq!(fake.requests().len(), 0);
}

#[tokio::test]
async fn a_client_of_another_ca_is_refused_by_the_engine() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let fake = Fake::on_tls(&ours, &ours, |directory| theirs.bundle(directory.path(), &ours)).await;
    let error = patient(&fake).services().await.unwrap_err();
    assert_eq!(error.class, Class::Unreachable, "{error}");
    assert_eq!(fake.requests().len(), 0);
}

#[test]
fn files_that_do_not_serve_are_named() {
    let authority = Authority::new();
    let directory = tempfile::tempdir().unwrap();
    let fresh = || authority.bundle(directory.path(), &authority);
    let connect = |tls: Tls| {
        let endpoint = Endpoint::parse("tcp://127.0.0.1:2376", Some(tls)).unwrap();
        match Engine::connect(&endpoint, PATIENT) {
            Err(ConnectError::Tls(error)) => error,
            other => panic!("{other:?}"),
        }
    };

    let tls = fresh();
    fs::remove_file(&tls.ca).unwrap();
    let error = connect(tls);
    assert!(matches!(error, TlsError::Read { role: Role::Ca, .. }), "{error:?}");
    assert!(error.to_string().contains("CA certificate") && error.to_string().ends_with("/ca.pem"), "{error}");

    for (role, text, said) in [
        (Role::Ca, "", "ca.pem holds no CA certificate in PEM"),
        (Role::Certificate, "nothing\n", "cert.pem holds no client certificate in PEM"),
        (Role::Key, "", "key.pem holds no client key in PEM (an encrypted key does not count"),
        (
            Role::Key,
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\naGk=\n-----END ENCRYPTED PRIVATE KEY-----\n",
            "key.pem holds no",
        ),
        (
            Role::Certificate,
            "-----BEGIN CERTIFICATE-----\naGk=\n",
            "cert.pem is no readable PEM (a section has no end)",
        ),
        (Role::Key, "-----BEGIN PRIVATE KEY-----\n!!!!\n-----END PRIVATE KEY-----\n", "key.pem is no readable PEM"),
        (Role::Ca, "-----BEGIN CERTIFICATE-----\naGk=\n-----END CERTIFICATE-----\n", "ca.pem cannot be used"),
        (Role::Key, "-----BEGIN PRIVATE KEY-----\naGk=\n-----END PRIVATE KEY-----\n", "key.pem cannot be used with"),
    ] {
        let tls = fresh();
        let path = match role {
            Role::Ca => &tls.ca,
            Role::Certificate => &tls.cert,
            Role::Key => &tls.key,
        };
        fs::write(path, text).unwrap();
        let error = connect(tls).to_string();
        assert!(error.contains(said), "{said:?}: {error}");
    }

    // Somebody else's key.
    let key = fs::read(fresh().key).unwrap();
    let tls = fresh();
    fs::write(&tls.key, key).unwrap();
    assert!(matches!(connect(tls), TlsError::KeyPair { .. }));
}
