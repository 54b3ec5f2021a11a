//! The example that pushes, against a registry on this machine.

use super::server::Server;
use crate::examples::example;
use crate::support::{Scratch, command, is_left_out, ocibuild, run};
use ocibuild::spec::{Manifest, media_type};
use ocibuild::{Digest, Layout};
use std::sync::Arc;

#[test]
fn append_and_push_adds_a_layer_to_a_base() {
    if is_left_out() {
        return;
    }
    let (server, shelf) = Server::with_shelf(|x, shelf| shelf.serve(x));
    let scratch = Scratch::new();
    let file = scratch.write("file", "in the base");
    let base = scratch.join("base");
    run(ocibuild().arg("layout").arg(&base).args(["--copy", &format!("{}:/file", file.display()), "-t", "v1"]))
        .success();
    let app = scratch.write("app", "#!/bin/sh\n");
    let reference = format!("{}/team/app:v1", server.host());
    let pushed = run(command(example("append_and_push"))
        .arg(format!("oci:{}:v1", base.display()))
        .arg(&app)
        .arg("/usr/bin/app")
        .arg(scratch.join("out"))
        .arg(&reference))
    .success();
    let bytes = shelf.manifest("team/app", "v1").unwrap();
    assert_eq!(pushed.text(), format!("{reference}@{}", Digest::of(&bytes)));
    let manifest = Manifest::read(&bytes, media_type::MANIFEST, "the pushed manifest").unwrap();
    let below = Arc::new(Layout::open(&base).unwrap()).image(Some("v1"), None).unwrap().manifest.layers;
    assert_eq!(manifest.layers[..1], below[..]);
    assert_eq!(manifest.layers.len(), 2);
    for blob in manifest.layers.iter().chain([&manifest.config]) {
        assert!(shelf.blob("team/app", blob.digest).is_some(), "{}", blob.digest);
    }
}
