//! Pulls: requests of one client for one repository that follow each other.
//!
//! HTTP knows only requests. What a client fetches from a repository belongs to one pull, until the client has been quiet for a
//! moment. As long as a pull lasts, the blobs of its layouts are held, so that a client that has a manifest gets its blobs.

use crate::common::directory_lock::DirectoryLock;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The pause after which a pull has ended.
pub(super) const QUIET: Duration = Duration::from_secs(3);

/// The most pulls at a time. More of them end the one that has been quiet for the longest time.
const MOST_PULLS: usize = 1000;

/// The most names of a pull that are remembered.
const MOST_NAMES: usize = 20;

/// A client of a registry.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct RegistryClient {
    /// Its address.
    pub address: IpAddr,
    /// The user that it authenticated as.
    pub user: Option<String>,
    /// The name that its program gives itself, such as `skopeo/1.18.0`.
    pub agent: Option<String>,
}

/// What a client has fetched from a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pull {
    /// The client.
    pub client: RegistryClient,
    /// The repository.
    pub repository: String,
    /// The tags and digests of the images, as the client named them.
    pub names: BTreeSet<String>,
    /// The number of manifests and indexes that were sent.
    pub manifests: u64,
    /// The number of blobs of which all or a part was sent.
    pub blobs: u64,
    /// The number of bytes of manifests and blobs that were sent.
    pub bytes: u64,
    /// The number of transfers that did not reach their end.
    pub broken: u64,
}

/// What is transferred.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sent {
    /// A manifest or index.
    Manifest,
    /// A blob.
    Blob,
}

type PullKey = (RegistryClient, String);

#[derive(Debug)]
struct OpenPull {
    pull: Pull,
    requests: usize,
    last: Instant,
    _held: Vec<Arc<DirectoryLock>>,
}

/// The pulls under way.
#[derive(Debug, Default)]
pub(super) struct Pulls(Mutex<BTreeMap<PullKey, OpenPull>>);

/// A request of a pull, until it is dropped.
#[derive(Debug)]
pub(super) struct PullRequest<'p> {
    pulls: &'p Pulls,
    key: PullKey,
}

impl Pulls {
    /// Starts a request of `client`, which keeps `held` until its pull ends. Returns the pull that ends to make room, too.
    pub(super) fn begin(
        &self,
        client: &RegistryClient,
        repository: &str,
        held: Vec<Arc<DirectoryLock>>,
        now: Instant,
    ) -> (PullRequest<'_>, Option<Pull>) {
        let key = (client.clone(), repository.to_owned());
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let ended = if open.len() >= MOST_PULLS && !open.contains_key(&key) { end_oldest(&mut open) } else { None };
        let new = || OpenPull { pull: Pull::new(client, repository), requests: 0, last: now, _held: Vec::new() };
        let entry = open.entry(key.clone()).or_insert_with(new);
        entry.requests += 1;
        entry.last = now;
        // The repository may have got another layout since the last request.
        entry._held = held;
        drop(open);
        (PullRequest { pulls: self, key }, ended)
    }

    /// Ends the pulls that have been quiet, and returns those that fetched something.
    pub(super) fn end_quiet(&self, now: Instant) -> Vec<Pull> {
        let is_over = |open: &OpenPull| open.requests == 0 && now.saturating_duration_since(open.last) >= QUIET;
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        open.extract_if(.., |_, open| is_over(open)).filter_map(|(_, open)| open.pull.that_fetched()).collect()
    }

    /// Ends all pulls, and returns those that fetched something.
    pub(super) fn end_all(&self) -> Vec<Pull> {
        let open = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        open.into_values().filter_map(|open| open.pull.that_fetched()).collect()
    }
}

fn end_oldest(open: &mut BTreeMap<PullKey, OpenPull>) -> Option<Pull> {
    let oldest = open.iter().filter(|(_, open)| open.requests == 0).min_by_key(|(_, open)| open.last);
    let key = oldest.map(|(key, _)| key.clone())?;
    open.remove(&key)?.pull.that_fetched()
}

impl Pull {
    fn new(client: &RegistryClient, repository: &str) -> Self {
        let (client, repository) = (client.clone(), repository.to_owned());
        Pull { client, repository, names: BTreeSet::new(), manifests: 0, blobs: 0, bytes: 0, broken: 0 }
    }

    fn that_fetched(self) -> Option<Pull> {
        (self.manifests + self.blobs > 0).then_some(self)
    }
}

impl PullRequest<'_> {
    /// Notes the image that the client asked for.
    pub(super) fn name(&self, name: &str) {
        self.change(|pull| {
            if pull.names.len() < MOST_NAMES {
                pull.names.insert(name.to_owned());
            }
        });
    }

    /// Notes a transfer, which reached its end or broke.
    pub(super) fn sent(&self, what: Sent, bytes: u64, result: &std::io::Result<()>) {
        self.change(|pull| {
            pull.bytes += bytes;
            pull.broken += u64::from(result.is_err());
            match what {
                Sent::Manifest => pull.manifests += 1,
                Sent::Blob => pull.blobs += 1,
            }
        });
    }

    fn change(&self, change: impl FnOnce(&mut Pull)) {
        let mut open = self.pulls.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = open.get_mut(&self.key) {
            change(&mut open.pull);
        }
    }
}

impl Drop for PullRequest<'_> {
    fn drop(&mut self) {
        let mut open = self.pulls.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = open.get_mut(&self.key) {
            open.requests = open.requests.saturating_sub(1);
            open.last = Instant::now();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(agent: &str) -> RegistryClient {
        RegistryClient { address: [127, 0, 0, 1].into(), user: None, agent: Some(agent.to_owned()) }
    }

    #[test]
    fn requests_that_follow_each_other_are_one_pull() {
        let (pulls, start) = (Pulls::default(), Instant::now());
        let (manifest, _) = pulls.begin(&client("a"), "app", Vec::new(), start);
        manifest.name("v1");
        manifest.sent(Sent::Manifest, 10, &Ok(()));
        let (blob, _) = pulls.begin(&client("a"), "app", Vec::new(), start);
        drop(manifest);
        let (other, _) = pulls.begin(&client("b"), "app", Vec::new(), start);
        drop(other);
        assert!(pulls.end_quiet(start + QUIET * 9).is_empty(), "one is busy, the other fetched nothing");
        blob.sent(Sent::Blob, 5, &Err(std::io::ErrorKind::BrokenPipe.into()));
        drop(blob);
        assert!(pulls.end_quiet(Instant::now()).is_empty());
        let ended = pulls.end_quiet(Instant::now() + QUIET);
        let names = BTreeSet::from(["v1".to_owned()]);
        let pull = Pull { names, manifests: 1, blobs: 1, bytes: 15, broken: 1, ..Pull::new(&client("a"), "app") };
        assert_eq!(ended, [pull]);
        assert!(pulls.end_all().is_empty());
    }

    #[test]
    fn a_pull_holds_what_its_last_request_holds() {
        let scratch = tempfile::tempdir().unwrap();
        let root = crate::common::root::Root::open(scratch.path()).unwrap();
        let lock = Arc::new(DirectoryLock::try_of(&root).unwrap().unwrap());
        let pulls = Pulls::default();
        drop(pulls.begin(&client("a"), "app", Vec::new(), Instant::now()));
        drop(pulls.begin(&client("a"), "app", vec![lock.clone()], Instant::now()));
        assert_eq!(Arc::strong_count(&lock), 2);
        pulls.end_all();
        assert_eq!(Arc::strong_count(&lock), 1);
    }

    #[test]
    fn the_number_of_pulls_is_limited() {
        let (pulls, start) = (Pulls::default(), Instant::now());
        for number in 0..MOST_PULLS {
            let (request, ended) = pulls.begin(&client(&number.to_string()), "app", Vec::new(), start);
            request.sent(Sent::Blob, 1, &Ok(()));
            assert_eq!(ended, None);
        }
        let (_busy, ended) = pulls.begin(&client("one more"), "app", Vec::new(), start);
        assert!(ended.is_some());
        assert_eq!(pulls.0.lock().unwrap().len(), MOST_PULLS);
    }
}
