//! Compressed blocks that machines share through a registry: less to compress, and the same image whatever the registry sends.

use super::server::{Exchange, Server};
use super::*;
use crate::consumers::Registry;
use crate::support::{Finished, Scratch, is_left_out, ocibuild, run};
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use std::process::Command;

/// The number of files of the tree; each is a block or two.
const FILES: u8 = 80;

/// The number of blocks that are fetched however long it takes, without those that another thread has begun.
const ALWAYS_FETCHED: u64 = 28;

/// A registry, and machines that copy a tree.
struct Yard {
    scratch: Scratch,
    shelf: Shelf,
    server: Server,
}

impl Yard {
    fn new(script: impl Fn(&mut Exchange, &Shelf) + Send + Sync + 'static) -> Yard {
        let (server, shelf) = Server::with_shelf(script);
        let yard = Yard { scratch: Scratch::new(), shelf, server };
        for number in 0..FILES {
            yard.write(number, number);
        }
        yard
    }

    /// A registry that answers as it should.
    fn honest() -> Yard {
        Yard::new(|x, shelf| shelf.serve(x))
    }

    /// Writes a file whose content follows from `seed`.
    fn write(&self, number: u8, seed: u8) {
        let mut random = crate::support::random::Random::new(u64::from(seed));
        self.scratch.write(format!("src/file{number:02}"), random.bytes(300_000));
    }

    fn cache(&self) -> String {
        format!("docker://{}/team/cache", self.server.host())
    }

    fn command(&self, machine: &str, arguments: &[&str]) -> Command {
        let mut command = ocibuild();
        command.current_dir(self.scratch.path()).env_remove("OCIBUILD_NO_CACHE");
        command.args(["layout", machine, "--copy", "src:/srv", "--secrets", "allow"]);
        command.args(["--cache-dir", &format!("{machine}-cache")]).args(arguments);
        command
    }

    #[track_caller]
    fn build(&self, machine: &str, arguments: &[&str]) -> Built {
        Built::of(run(self.command(machine, arguments).args(["--format", "json"])).success())
    }

    /// Shares the tree, changes two files, and returns the digest of a build without any cache.
    #[track_caller]
    fn share(&self) -> String {
        self.build("first", &["--cache-to", &self.cache()]);
        for number in [3, 50] {
            self.write(number, number + 100);
        }
        self.build("alone", &["--no-cache"]).digest
    }

    /// Returns the tags of the cache.
    fn tags(&self) -> Vec<String> {
        self.shelf.tags("team/cache")
    }

    /// Returns the digests of the shared layers, in order.
    fn shared(&self) -> Vec<String> {
        let manifest = self.shelf.manifest("team/cache", &self.tags()[0]).unwrap();
        let manifest: Value = serde_json::from_slice(&manifest).unwrap();
        let layers = manifest["layers"].as_array().unwrap();
        layers.iter().map(|layer| layer["digest"].as_str().unwrap().to_owned()).collect()
    }
}

struct Built {
    digest: String,
    layer: Value,
    stderr: String,
}

impl Built {
    #[track_caller]
    fn of(finished: Finished) -> Built {
        let report: Value = serde_json::from_slice(&finished.stdout).unwrap();
        let digest = report["digest"].as_str().unwrap().to_owned();
        Built { digest, layer: report["layers"][0].clone(), stderr: finished.stderr }
    }

    fn blocks(&self, which: &str) -> u64 {
        self.layer["blocks"][which].as_u64().unwrap()
    }
}

fn is_part(x: &Exchange) -> bool {
    x.line().starts_with("GET /v2/team/cache/blobs/") && x.header("range").is_some()
}

#[test]
fn a_new_machine_compresses_only_blocks_that_no_other_has() {
    if is_left_out() {
        return;
    }
    let yard = Yard::honest();
    let expected = yard.share();
    let built = yard.build("second", &["--cache-from", &yard.cache()]);
    assert_eq!(built.digest, expected, "{}", built.stderr);
    assert!(built.blocks("reused") >= ALWAYS_FETCHED, "{}", built.layer);
    let parts = yard.server.seen().iter().filter(|seen| seen.header("range").is_some()).count();
    assert!((1..30).contains(&parts), "{parts} requests for 49 blocks");
    // What this machine has is not requested.
    let requests = yard.server.seen().len();
    yard.write(70, 200);
    let again = yard.build("second", &["--cache-from", &yard.cache()]);
    assert!(again.blocks("compressed") <= 3, "{}", again.layer);
    assert!(yard.server.seen().len() <= requests + 1, "{:?}", &yard.server.lines()[requests..]);
}

#[test]
fn digests_with_fetched_blocks_depend_on_no_number_of_threads() {
    if is_left_out() {
        return;
    }
    let yard = Yard::honest();
    let expected = yard.share();
    for jobs in ["1", "2", "8"] {
        let machine = format!("threads{jobs}");
        let built = yard.build(&machine, &["--cache-from", &yard.cache(), "--jobs", jobs]);
        assert_eq!(built.digest, expected, "--jobs {jobs}");
        assert!(built.blocks("reused") >= ALWAYS_FETCHED, "--jobs {jobs}: {}", built.layer);
    }
}

#[test]
fn layers_of_several_builds_are_shared_under_one_tag() {
    if is_left_out() {
        return;
    }
    let yard = Yard::honest();
    yard.share();
    let first = yard.shared();
    assert_eq!(first.len(), 1);
    yard.build("second", &["--cache-from", &yard.cache(), "--cache-to", &yard.cache()]);
    let both = yard.shared();
    assert_eq!((yard.tags().len(), both.len(), &both[1]), (1, 2, &first[0]), "the newest is first");
    let writes = || yard.server.lines().iter().filter(|line| line.starts_with("P")).count();
    let before = writes();
    yard.build("second", &["--cache-to", &yard.cache()]);
    assert_eq!(writes(), before, "it is shared already");
    yard.build("third", &["--compression", "zstd", "--cache-to", &format!("{}:mine", yard.cache())]);
    assert_eq!(yard.tags().iter().filter(|tag| tag.starts_with("mine-")).count(), 1);
}

#[test]
fn without_a_cache_of_its_own_a_build_shares_nothing_and_says_so() {
    let yard = Yard::honest();
    let built = yard.build("first", &["--no-cache", "--cache-to", &yard.cache(), "-q"]);
    let said = "nothing to push: the layers were built without the cache of this machine";
    assert!(built.stderr.contains(said), "{}", built.stderr);
    let built = yard.build("first", &["--compression", "none", "--cache-to", &yard.cache(), "-q"]);
    let said = "nothing to push: no layer was built here with a compressed block of 64 KiB or more";
    assert!(built.stderr.contains(said), "{}", built.stderr);
    assert_eq!((yard.tags(), yard.server.lines()), (vec![], vec![]));
}

#[test]
fn whatever_a_registry_sends_for_a_block_the_image_is_the_same() {
    if is_left_out() {
        return;
    }
    type Script = Box<dyn Fn(&mut Exchange, &Shelf) + Send + Sync>;
    let parts = |answer: fn(&mut Exchange, &Shelf)| -> Script {
        Box::new(move |x, shelf| match is_part(x) {
            true => answer(x, shelf),
            false => shelf.serve(x),
        })
    };
    let damaged = |x: &mut Exchange, shelf: &Shelf| {
        let digest = x.line().rsplit('/').next().unwrap().parse().unwrap();
        let bytes: Vec<u8> = shelf.blob("team/cache", digest).unwrap().iter().map(|byte| byte ^ 1).collect();
        let range = x.header("range").unwrap();
        let (from, to) = range.strip_prefix("bytes=").unwrap().split_once('-').unwrap();
        let (from, to): (usize, usize) = (from.parse().unwrap(), to.parse().unwrap());
        let said = format!("bytes {from}-{to}/{}", bytes.len());
        x.answer(206, &[("Content-Range", &said)], &bytes[from..=to]);
    };
    let cases: [(&str, &str, Script); 5] = [
        ("damaged", "a block is damaged; compressing its blocks", parts(damaged)),
        ("no parts", "does not send parts of it", parts(|x, _| x.answer(200, &[], "everything"))),
        ("missing", "does not send parts of it", parts(|x, _| x.refuse(404, "BLOB_UNKNOWN", "gone"))),
        ("down", "compressing its blocks", parts(|x, _| x.refuse(403, "DENIED", "go away"))),
        (
            "short",
            "compressing its blocks",
            parts(|x, shelf| {
                let digest: Digest = x.line().rsplit('/').next().unwrap().parse().unwrap();
                let size = shelf.blob("team/cache", digest).unwrap().len();
                let range = x.header("range").unwrap().strip_prefix("bytes=").unwrap().to_owned();
                x.answer(206, &[("Content-Range", &format!("bytes {range}/{size}"))], "short");
            }),
        ),
    ];
    for (name, said, script) in cases {
        let yard = Yard::new(script);
        let expected = yard.share();
        let built = yard.build("second", &["--cache-from", &yard.cache(), "-q"]);
        assert_eq!((built.digest, built.layer["blocks"]["reused"].as_u64()), (expected, Some(0)), "{name}");
        assert!(built.stderr.contains(said), "{name}: {}", built.stderr);
        assert_eq!(built.stderr.lines().count(), 1, "{name}: {}", built.stderr);
    }
}

#[test]
fn lists_of_blocks_that_are_wrong_cost_a_warning_and_are_replaced() {
    if is_left_out() {
        return;
    }
    let yard = Yard::honest();
    let expected = yard.share();
    let tag = yard.tags().remove(0);
    let good = yard.shelf.manifest("team/cache", &tag).unwrap();
    type Change = fn(&mut Value);
    let changes: [(Change, &str); 5] = [
        (|config| config["format"] = "another".into(), "does not match its tag"),
        (|config| config["layers"] = serde_json::json!([]), "does not match its layers"),
        (|config| config["layers"][0]["digest"] = Digest::of(b"x").to_string().into(), "does not match its layers"),
        (|config| config["layers"][0]["blocks"] = "AAAA".into(), "a list of blocks does not match its layer"),
        (|config| config["layers"][0]["blocks"] = "?".into(), "a list of blocks does not match its layer"),
    ];
    for (number, (change, said)) in changes.into_iter().enumerate() {
        let mut manifest: Value = serde_json::from_slice(&good).unwrap();
        let data = STANDARD.decode(manifest["config"]["data"].as_str().unwrap()).unwrap();
        let mut config: Value = serde_json::from_slice(&data).unwrap();
        change(&mut config);
        let config = config.to_string();
        let config_type = manifest["config"]["mediaType"].as_str().unwrap().to_owned();
        manifest["config"] = Descriptor::of(&config_type, config.as_bytes()).to_json();
        let shelf = yard.shelf.clone().with_blob("team/cache", config.as_bytes());
        shelf.with_manifest("team/cache", &tag, media_type::MANIFEST, manifest.to_string().as_bytes());
        let machine = format!("machine{number}");
        let built = yard.build(&machine, &["--cache-from", &yard.cache(), "-q"]);
        assert_eq!((&built.digest, built.blocks("reused")), (&expected, 0), "{said}");
        assert!(built.stderr.contains(said), "{}", built.stderr);
    }
    yard.build("machine0", &["--cache-to", &yard.cache(), "-q"]);
    assert_eq!(yard.shared().len(), 1);
    assert!(yard.build("last", &["--cache-from", &yard.cache()]).blocks("reused") >= ALWAYS_FETCHED);
}

/// A registry that takes longer than the compressor is asked for few blocks.
#[test]
fn blocks_are_fetched_while_that_is_faster() {
    if is_left_out() {
        return;
    }
    let yard = Yard::new(|x, shelf| {
        if is_part(x) {
            std::thread::sleep(Duration::from_secs(6));
        }
        shelf.serve(x);
    });
    let expected = yard.share();
    let built = run(&mut yard.command("second", &["--cache-from", &yard.cache()])).success();
    assert!(built.text().contains(&expected), "{}", built.text());
    assert!(built.stderr.contains("fetched; compressing the others, which is faster"), "{}", built.stderr);
    let parts = yard.server.seen().iter().filter(|seen| seen.header("range").is_some()).count();
    assert!(parts < 9, "{parts} requests");
}

#[test]
fn a_registry_that_lost_an_earlier_layer_gets_the_new_one() {
    if is_left_out() {
        return;
    }
    let yard = Yard::honest();
    yard.share();
    let lost = yard.shared().remove(0);
    yard.shelf.lose_blob("team/cache", &lost);
    let built = yard.build("second", &["--cache-to", &yard.cache(), "-q"]);
    assert_eq!(built.stderr, "");
    let now = yard.shared();
    assert!(now.len() == 1 && now[0] != lost, "{now:?}");
}

#[test]
fn a_real_registry_gives_and_takes_blocks() {
    let Some(registry) = Registry::plain() else { return };
    let yard = Yard::honest();
    let cache = format!("docker://{}/team/cache", registry.address());
    yard.build("first", &["--cache-to", &cache]);
    yard.write(3, 103);
    let expected = yard.build("alone", &["--no-cache"]).digest;
    let built = yard.build("second", &["--cache-from", &cache]);
    assert_eq!(built.digest, expected);
    assert!(built.blocks("reused") >= ALWAYS_FETCHED, "{}", built.layer);
}
