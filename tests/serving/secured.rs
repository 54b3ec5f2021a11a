//! TLS and passwords.

use super::{Served, Yard};
use crate::support::{Finished, command, consumer, run};
use base64::Engine as _;

/// A name and a password, as the header `Authorization` has them.
fn basic(pair: &str) -> String {
    format!("Authorization: Basic {}\r\n", base64::prelude::BASE64_STANDARD.encode(pair))
}

/// Writes a file with the password `s3cret` of `alice`, in a format of htpasswd.
fn htpasswd(yard: &Yard, format: &str) -> Option<()> {
    let program = consumer("htpasswd")?;
    let line = run(command(program).args([format, "-b", "-n", "alice", "s3cret"])).success();
    yard.scratch.write("users", line.stdout);
    Some(())
}

#[test]
fn a_password_is_required() {
    let yard = Yard::new();
    yard.text("layout out --copy a:/a -t team/app:v1");
    let Some(()) = htpasswd(&yard, "-B") else { return };
    let served = yard.serve("out --htpasswd users");
    for path in ["/v2/", "/v2/team/app/manifests/v1", "/v2/_catalog", "/anything"] {
        let got = served.get(path);
        assert_eq!((got.status, got.code().as_str()), (401, "UNAUTHORIZED"), "{path}");
        assert_eq!(got.header("www-authenticate"), Some("Basic realm=\"ocibuild\""));
        for wrong in ["alice:s3cre", "bob:s3cret", "alice", ":"] {
            assert_eq!(served.request(&format!("GET {path}"), &basic(wrong)).status, 401, "{wrong}");
        }
        assert_eq!(served.request(&format!("GET {path}"), "Authorization: Bearer x\r\n").status, 401);
    }
    assert_eq!(served.request("POST /v2/x/blobs/uploads/", "").status, 401);
    for _ in 0..2 {
        assert_eq!(served.request("GET /v2/team/app/manifests/v1", &basic("alice:s3cret")).status, 200);
    }
    let pull = served.pull(0);
    assert_eq!((pull["user"].as_str(), pull["manifests"].as_u64()), (Some("alice"), Some(2)));
    assert!(served.lines("refused").iter().all(|line| line["status"] == 401 && line["user"].is_null()));
    let log = std::fs::read_to_string(&served.log).unwrap();
    assert!(!log.contains("s3cre"), "{log}");
}

#[test]
fn other_formats_of_passwords_are_refused() {
    let yard = Yard::new();
    yard.text("layout out --copy a:/a -t v1");
    for format in ["-m", "-s", "-p", "-5"] {
        let Some(()) = htpasswd(&yard, format) else { return };
        let failed = yard.run("serve out --listen 127.0.0.1:0 --htpasswd users").ended_with(1);
        assert_eq!(failed.stderr, "ocibuild: error: users: line 1: not a bcrypt hash (htpasswd -B FILE alice)\n");
    }
}

/// Makes a certificate for the loopback address, with its own authority.
fn certificates(yard: &Yard) -> Option<()> {
    let openssl = consumer("openssl")?;
    let in_scratch = |arguments: &str| -> Finished {
        run(command(&openssl).current_dir(yard.scratch.path()).args(arguments.split(' '))).success()
    };
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout";
    in_scratch(&format!("req -x509 {key} ca.key -out ca.crt -days 2 -subj /CN=test-authority"));
    in_scratch(&format!("req {key} own.key -out own.csr -subj /CN=localhost"));
    yard.scratch.write("names", "subjectAltName=DNS:localhost,IP:127.0.0.1\n");
    in_scratch("x509 -req -in own.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -extfile names -out own.crt");
    std::fs::create_dir(yard.scratch.join("authorities")).unwrap();
    std::fs::copy(yard.scratch.join("ca.crt"), yard.scratch.join("authorities/ca.crt")).unwrap();
    Some(())
}

#[test]
fn images_are_pulled_over_tls() {
    let yard = Yard::new();
    yard.text("layout out --copy a:/a -t team/app:v1");
    let Some(()) = certificates(&yard) else { return };
    let served: Served = yard.serve("out --tls-cert own.crt --tls-key own.key --listen 0.0.0.0:0");
    assert_eq!(served.lines("serving")[0]["tls"], true);
    let port = served.address.rsplit(':').next().unwrap();
    let image = format!("docker://127.0.0.1:{port}/team/app:v1");
    yard.run(&format!("export {image} oci:copy --cert-dir authorities")).success();
    yard.run(&format!("export {image} oci:other")).failed_saying("certificate");
    // Bytes that are not TLS end the connection, and only that.
    let answer = {
        use std::io::{Read, Write};
        let mut stream = std::net::TcpStream::connect(format!("127.0.0.1:{port}")).unwrap();
        stream.write_all(b"GET /v2/ HTTP/1.1\r\n\r\n").unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).ok();
        bytes
    };
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
    yard.run(&format!("export {image} oci:third --cert-dir authorities")).success();
    for (words, part) in [
        ("--tls-cert own.crt --tls-key ca.key", "ca.key: not the key of own.crt"),
        ("--tls-cert own.key --tls-key own.key", "own.key: has no PEM certificate"),
        ("--tls-cert own.crt --tls-key own.crt", "own.crt: has no private key in PEM without a passphrase"),
        ("--tls-cert names --tls-key own.key", "names: has no PEM certificate"),
    ] {
        yard.run(&format!("serve out --listen 127.0.0.1:0 {words}")).ended_with(1).failed_saying(part);
    }
}

#[test]
fn plain_http_beyond_this_machine_takes_a_word() {
    let yard = Yard::new();
    yard.text("layout out --copy a:/a -t team/app:v1");
    let served = yard.serve("out --listen 0.0.0.0:0 --plain-http");
    let port = served.address.rsplit(':').next().unwrap();
    yard.run(&format!("inspect 127.0.0.1:{port}/team/app:v1")).success();
}
