//! The commands that write: what is there before, and what is typed.

use super::scenario::{Scenario, Stage};

/// Every command that writes has a row. `{HOST}` is the registry.
pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario { name: "a new layout", command: "layout", line: "layout new -t v1 --copy src:/srv", ..Scenario::NONE },
    Scenario {
        name: "another image of a layout",
        command: "layout",
        line: "layout out -t new --base oci:out:keep --copy src:/srv --jobs 1",
        ..Scenario::NONE
    },
    Scenario {
        name: "an image that replaces another",
        command: "layout",
        line: "layout out -t keep --copy src:/srv --copy src:/other",
        ..Scenario::NONE
    },
    Scenario {
        name: "the same image again",
        command: "layout",
        line: "layout out -t v1 --copy src:/srv",
        prepare: |stage| stage.run("layout out -t v1 --copy src:/srv"),
        ..Scenario::NONE
    },
    Scenario {
        name: "a build with a cache",
        command: "layout",
        line: "layout out -t new --copy src:/srv --cache-dir cache",
        ..Scenario::NONE
    },
    Scenario {
        name: "a build with a lock file, of a base in a registry",
        command: "layout",
        line: "layout out -t new --base docker://{HOST}/team/base:v1 --plain-http {HOST} --lock --lock-file lock --copy src:/srv \
               --cache-dir cache",
        // The lock file names the port of the registry, which is the same for every run of a scenario.
        ..Scenario::NONE
    },
    Scenario {
        name: "a build that saves an archive and files with its digest",
        command: "layout",
        line: "layout out -t new --copy src:/srv --save oci-archive:saved.tar --iidfile id --digest-file digest",
        ..Scenario::NONE
    },
    Scenario {
        name: "a build for a registry and an archive",
        command: "build",
        line: "build -t {HOST}/team/app:v1 --copy src:/srv --push --plain-http {HOST} --output oci-archive:image.tar:v1 \
               --cache-dir cache",
        ..Scenario::NONE
    },
    Scenario {
        name: "an image for two platforms",
        command: "layout",
        line: "layout out -t keep --platform linux/amd64,linux/arm64 --copy src:/srv",
        ..Scenario::NONE
    },
    Scenario {
        name: "a platform that is added to an image",
        command: "layout",
        line: "layout out -t keep --platform linux/arm64 --into-index --copy src:/srv",
        ..Scenario::NONE
    },
    Scenario {
        name: "a copy of all platforms",
        command: "export",
        line: "export out:both docker://{HOST}/team/app:v1 --all-platforms --plain-http {HOST}",
        prepare: |stage| stage.run("layout out -t both --platform linux/amd64,linux/arm64 --copy src:/srv"),
        ..Scenario::NONE
    },
    Scenario {
        name: "a robot whose environment is shared",
        command: "layout",
        line: "layout out -t new --robot machine/robot --base scratch --rcc-exec rcc --catalog {CATALOG} --cache-dir cache \
               --cache-to docker://{HOST}/team/cache --plain-http {HOST}",
        prepare: Stage::record_environment,
        ..Scenario::NONE
    },
    Scenario {
        name: "a copy that takes blocks from others and shares its own",
        command: "layout",
        line: "layout out -t new --copy large:/srv --cache-dir cache --cache-from docker://{HOST}/team/cache \
               --cache-to docker://{HOST}/team/cache --plain-http {HOST}",
        prepare: |stage| {
            let line = |number: u64| format!("{}\n", number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            stage.write("large/shared", &(0..20_000).map(line).collect::<String>());
            stage.run(
                "layout home/out --copy large:/srv --cache-dir home/cache --cache-to docker://{HOST}/team/cache \
                 --plain-http {HOST}",
            );
            stage.write("large/own", &(20_000..40_000).map(line).collect::<String>());
        },
        ..Scenario::NONE
    },
    Scenario {
        name: "a docker archive",
        command: "export",
        line: "export out:keep docker-archive:image.tar:team/app:v1",
        ..Scenario::NONE
    },
    Scenario {
        name: "an archive with another image",
        command: "export",
        line: "export out:other oci-archive:image.tar:team/app:v2",
        prepare: |stage| {
            stage.run("layout out -t other --copy src:/srv");
            stage.run("export out:keep oci-archive:image.tar:team/app:v1");
        },
        ..Scenario::NONE
    },
    Scenario {
        name: "a copy in another layout",
        command: "export",
        line: "export out:keep oci:there:v1",
        prepare: |stage| stage.run("layout there -t v0 --copy src:/srv"),
        ..Scenario::NONE
    },
    Scenario { name: "a directory", command: "export", line: "export out:keep dir:image", ..Scenario::NONE },
    Scenario {
        name: "a push",
        command: "export",
        line: "export out:keep docker://{HOST}/team/app:v1 --plain-http {HOST}",
        ..Scenario::NONE
    },
    Scenario {
        name: "a base that is pulled",
        command: "pull",
        line: "pull docker://{HOST}/team/base:v1 --plain-http {HOST} --cache-dir cache",
        ..Scenario::NONE
    },
    Scenario {
        name: "a login",
        command: "login",
        line: "login {HOST} -u alice --password-stdin --authfile auth.json",
        stdin: "password\n",
        prepare: |stage| stage.write("auth.json", r#"{"auths": {"other.example": {"auth": "YTpi"}}}"#),
        ..Scenario::NONE
    },
    Scenario {
        name: "a logout",
        command: "logout",
        line: "logout other.example --authfile auth.json",
        prepare: |stage| {
            stage.write(
                "auth.json",
                r#"{"auths": {"other.example": {"auth": "YTpi"}, "kept.example": {"auth": "YTpi"}}}"#,
            );
        },
        // A second logout has nothing to do, and says so.
        again: Again::NothingLeft("not logged in"),
        ..Scenario::NONE
    },
    Scenario {
        name: "a config that is edited",
        command: "edit",
        line: "edit out:keep --label edited=yes --annotation edited=yes",
        ..Scenario::NONE
    },
    Scenario {
        name: "another base below an image",
        command: "rebase",
        line: "rebase out:app --onto oci:out:base2",
        prepare: |stage| {
            stage.run("layout out -t base1 --copy src:/base");
            stage.write("src/c", "newer\n");
            stage.run("layout out -t base2 --copy src:/base");
            stage.run("layout out -t app --base oci:out:base1 --copy src:/app");
        },
        ..Scenario::NONE
    },
    Scenario {
        name: "damaged blobs that are repaired",
        command: "verify",
        line: "verify out --repair --from there",
        prepare: |stage| {
            stage.run("layout out -t other --copy src:/srv");
            stage.run("export out:other oci:there:other");
            stage.damage("out");
        },
        ..Scenario::NONE
    },
    Scenario {
        name: "layers that become one",
        command: "squash",
        line: "squash out:app",
        prepare: |stage| stage.run("layout out -t app --copy src:/srv --copy src:/opt"),
        ..Scenario::NONE
    },
    Scenario {
        name: "a build file to begin with",
        command: "init",
        // The name of the directory is in the file.
        prepare: |stage| stage.write("project/run.sh", "echo done\n"),
        line: "init project/new.toml",
        again: Again::NothingLeft("is not overwritten"),
        ..Scenario::NONE
    },
    Scenario {
        name: "the files of an image in a directory",
        command: "extract",
        line: "extract out:app tree",
        prepare: |stage| stage.run("layout out -t app --copy src:/srv --copy src:/opt"),
        again: Again::NothingLeft("is not empty"),
        ..Scenario::NONE
    },
    Scenario {
        name: "the files of an image in one tar",
        command: "export",
        line: "export out:app rootfs:files.tar",
        prepare: |stage| stage.run("layout out -t app --copy src:/srv --copy src:/opt"),
        ..Scenario::NONE
    },
    Scenario { name: "two more names", command: "tag", line: "tag out:keep v1 team/app:v2", ..Scenario::NONE },
    Scenario {
        name: "a name that goes",
        command: "rm",
        line: "rm out:other",
        prepare: |stage| stage.run("layout out -t other --copy src:/srv"),
        again: Again::NothingLeft("other"),
        ..Scenario::NONE
    },
    Scenario {
        name: "blobs that nothing needs",
        command: "gc",
        line: "gc out",
        prepare: |stage| {
            stage.run("layout out -t other --copy src:/srv");
            stage.run("rm out:other");
        },
        ..Scenario::NONE
    },
    Scenario {
        name: "a context for other builders",
        command: "dockerfile",
        line: "dockerfile --copy src:/srv --context context",
        ..Scenario::NONE
    },
    Scenario {
        name: "a cache that is pruned",
        command: "cache prune",
        line: "cache prune --keep 0 --cache-dir cache",
        prepare: |stage| stage.run("layout out -t other --copy src:/srv --cache-dir cache"),
        ..Scenario::NONE
    },
    Scenario {
        name: "a cache that is cleared",
        command: "cache clear",
        line: "cache clear --cache-dir cache",
        prepare: |stage| stage.run("layout out -t other --copy src:/srv --cache-dir cache"),
        ..Scenario::NONE
    },
    Scenario {
        name: "a cache that is verified",
        command: "cache verify",
        line: "cache verify --cache-dir cache",
        prepare: |stage| stage.run("layout out -t other --copy src:/srv --cache-dir cache"),
        ..Scenario::NONE
    },
];

/// The commands that write nothing but, at most, listings in the cache.
pub(super) const READERS: &[&str] =
    &["serve", "diff", "inspect", "ls", "cat", "catalogs", "completions", "man", "cache info"];

/// What the same command does after it has done its work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Again {
    /// The same.
    Same,
    /// It fails, and its message contains this.
    NothingLeft(&'static str),
}
