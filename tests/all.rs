//! Every test of the whole program, in one binary. `CATALOGUE.md` has the promises and the tests of each.
//!
//! * `architecture`: rooms, imports, names and documents, held against the sources.
//! * `fuzz`: readers of untrusted bytes, with mutations of valid input.
//! * `examples`: the programs in `examples/`.
//! * `support`: scratch directories, running programs, and a loud word where one is missing.
//! * `consumers`: the programs that read images in real life, each behind a few plain functions.
//! * `bases`: base images, made by other tools than ours.
//! * `acceptance`: one image through every consumer.
//! * `listers`: one tar, listed by four readers.
//! * `difference`: what `diff` says of two images.
//! * `catalogue`: bad input, faults of the machine, concurrency and determinism, row by row.
//! * `documents`: README and docs/, held against the program.
//! * `dockerfile`: images that others build of our Dockerfiles.
//! * `registry`: the distribution client, against faulty registries and real ones.
//! * `below`: what a layer meets in the layers below it.
//! * `caching`: layers that were made before.
//! * `block_reuse`: what a layer takes over from the build before.
//! * `upkeep`: the cache directory as a whole.
//! * `compressions`: archives of images whose layers are compressed in different ways.
//! * `sources`: what of a directory or tar goes into an image.
//! * `split_copies`: copies in several layers.
//! * `contents`: options of one copy, and what is put into an image without a source.
//! * `build_file`: `ocibuild.toml`.
//! * `habits`: flags that people know from other programs.
//! * `jobs`: twelve everyday jobs as scripts, whose images engines run.
//! * `images`: how images are named and asked for.
//! * `serving`: layouts as a registry, read by real clients and attacked by wrong ones.
//! * `words`: the help of the command line, its progress and its errors.
//! * `promise`: every command that writes, killed, stopped and refused at each of its system calls.
//! * `rcc`: robots and their environments, with the real rcc as the judge.
#![cfg(test)]
#![expect(clippy::disallowed_methods, reason = "tests create and damage files directly")]

mod architecture;
mod examples;
#[cfg(target_os = "linux")]
mod fuzz;
mod registry;
mod support;

#[cfg(target_os = "linux")]
mod acceptance;
#[cfg(target_os = "linux")]
mod bases;
#[cfg(target_os = "linux")]
mod below;
#[cfg(target_os = "linux")]
mod block_reuse;
#[cfg(target_os = "linux")]
mod build_file;
#[cfg(target_os = "linux")]
mod caching;
#[cfg(target_os = "linux")]
mod catalogue;
#[cfg(target_os = "linux")]
mod compressions;
#[cfg(target_os = "linux")]
mod consumers;
#[cfg(target_os = "linux")]
mod contents;
#[cfg(target_os = "linux")]
mod difference;
#[cfg(target_os = "linux")]
mod dockerfile;
#[cfg(target_os = "linux")]
mod documents;
#[cfg(target_os = "linux")]
mod habits;
#[cfg(target_os = "linux")]
mod images;
#[cfg(target_os = "linux")]
mod jobs;
#[cfg(target_os = "linux")]
mod linking;
mod listers;
#[cfg(target_os = "linux")]
mod promise;
mod python_environments;
#[cfg(target_os = "linux")]
mod rcc;
#[cfg(target_os = "linux")]
mod serving;
#[cfg(target_os = "linux")]
mod sources;
#[cfg(target_os = "linux")]
mod split_copies;
#[cfg(target_os = "linux")]
mod upkeep;
#[cfg(target_os = "linux")]
mod words;
