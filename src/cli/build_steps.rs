//! The steps of a build: it is prepared, its images are made, and they are delivered. Several builds of one file go through them
//! together.

use super::blob_locations;
use super::build_flags::BuildFlags;
use super::build_report::{Explains, Made, Reporting};
use super::build_target::BuildTarget;
use super::cache_limit::Bound;
use super::content_flags::LayerFlag;
use super::destination::Writing;
use super::excluded;
use super::into_index;
use super::progress_display::Watch;
use super::relocated;
use super::robot::RobotToPackage;
use super::source::OpenedImage;
use super::{report, signals};
use ocibuild::build::add_platforms::GrownIndex;
use ocibuild::build::{BuildSpec, LayerCaches, LayersInFlight, Plan, SharedLayers};
use ocibuild::cache::{Cache, FactsLookup, SharedCache};
use ocibuild::common::threads;
use ocibuild::store::{BlobSink as _, LAYERS, Layout, RemoteLayers, StoredIndex};
use ocibuild::{Error, ImageName, Platform, Result};
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

/// A build: its flags, the order of those that make layers, and where the image goes.
pub(super) struct Build<'b> {
    /// The name of the image in a file of several.
    pub(super) name: Option<&'b str>,
    pub(super) flags: &'b BuildFlags,
    pub(super) order: Vec<LayerFlag>,
    pub(super) target: BuildTarget,
}

/// A build whose sources and base are open.
struct PreparedBuild<'b> {
    build: &'b Build<'b>,
    watch: Arc<Watch>,
    bound: Bound,
    cache: Option<Cache>,
    shared: Option<SharedCache>,
    robot: Option<RobotToPackage>,
    names: Vec<ImageName>,
    /// One for each platform.
    specs: Vec<BuildSpec>,
}

/// A build whose images are in the layout, or in the cache.
struct FinishedBuild<'b> {
    prepared: PreparedBuild<'b>,
    layout: Arc<Layout>,
    made: Vec<Made>,
    listing: Listing,
}

/// When an image is listed in a layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Listing {
    /// When it is made.
    AtOnce,
    /// When the images of other builds that come before it are listed.
    InTurn,
}

impl Build<'_> {
    /// Builds the image, copies it to its destinations, and prints the digest of its manifest; in a dry run, only prints the plan.
    ///
    /// # Errors
    /// Fails if a flag does not fit, a source or the base cannot be read, or a place cannot be written.
    pub(super) fn run(&self) -> Result<ExitCode> {
        let prepared = self.prepare(&Arc::new(Watch::new(&self.flags.common)))?;
        match self.flags.dry_run {
            true => prepared.print_plans()?,
            false => prepared.make(Listing::AtOnce, None)?.deliver()?,
        }
        Ok(ExitCode::SUCCESS)
    }

    fn image(&self) -> String {
        format!("image {}", self.name.unwrap_or_default())
    }

    fn within(&self, error: Error) -> Error {
        error.within(self.image())
    }

    /// Checks the flags, and opens everything that the image is made of.
    fn prepare(&self, watch: &Arc<Watch>) -> Result<PreparedBuild<'_>> {
        let Build { flags, order, target, .. } = self;
        flags.check(target)?;
        let bound = flags.cache.tidy.bound()?;
        let cache = flags.cache.open(&flags.request.cache_directory, watch)?;
        let cache = cache.map(|cache| cache.trusting(flags.shared_cache.trusted()));
        let (network, namespace) = (flags.request.bases.network(), flags.namespace.name());
        let policy = flags.compression.choose(target, network, namespace, watch)?;
        let shared = flags.shared_cache.open(network, watch)?;
        let known = FactsLookup { cache: cache.as_ref(), shared: shared.as_ref(), policy };
        let unpack_in = cache.as_ref().map(|_| &flags.request.cache_directory);
        let platforms = flags.request.platforms()?;
        if platforms.len() > 1 {
            flags.check_several(target)?;
        }
        let robot = flags.request.robot_images(order, &known, unpack_in, watch)?;
        let images = robot.as_ref().map_or(&[][..], |packaged| &packaged.images);
        let directory = flags.request.own_directory(images.first())?;
        flags.shared_cache.check_lock(&mut flags.request.bases.lock_file(&directory)?)?;
        let names = flags.names(images.first())?;
        let image_of_each = images.iter().map(Some).chain(std::iter::repeat(None));
        let spec =
            |(platform, image): (&Option<&Platform>, _)| flags.spec(order, image, *platform, policy, target, watch);
        let specs = platforms.iter().zip(image_of_each).map(spec).collect::<Result<Vec<_>>>()?;
        Ok(PreparedBuild { build: self, watch: watch.clone(), bound, cache, shared, robot, names, specs })
    }
}

impl<'b> PreparedBuild<'b> {
    fn reporting(&self) -> Reporting<'_> {
        let Build { flags, target, .. } = self.build;
        Reporting { target, names: &self.names, format: flags.common.format, watch: &self.watch }
    }

    /// Plans the images without the caches.
    fn plans(&mut self) -> Result<Vec<Plan>> {
        let spool = self.build.target.spool()?;
        let specs = std::mem::take(&mut self.specs);
        specs.into_iter().map(|spec| spec.plan(&spool, None, &self.watch)).collect()
    }

    fn print_plans(mut self) -> Result<()> {
        let plans = self.plans()?;
        match &self.build.flags.written {
            Some(file) => self.reporting().build_file(&plans, file),
            None => self.reporting().plans(&plans),
        }
    }

    /// Makes the images. `in_flight` has the layers that builds beside this one are making.
    fn make(mut self, listing: Listing, in_flight: Option<&LayersInFlight>) -> Result<FinishedBuild<'b>> {
        let Build { flags, target, .. } = self.build;
        let watch = &self.watch;
        let mut layout = match &target.layout {
            Some(layout) => Layout::create_locking(layout, flags.lock.locking())?.checking(flags.write_check.check()),
            None => Layout::kept(&flags.request.cache_directory.open()?, LAYERS, &**watch)?,
        };
        if let Some(cache) = &self.cache {
            layout = layout.with_verification_cache(cache.verified_files().clone());
        }
        let layout = Arc::new(layout);
        let is_sparse = flags.request.bases.is_sparse();
        let memory = LayerCaches {
            cache: self.cache.as_ref(),
            shared: self.shared.as_ref(),
            shared_layers: if is_sparse { SharedLayers::Remote } else { SharedLayers::Fetched },
            layout: &layout,
            in_flight,
        };
        let specs = std::mem::take(&mut self.specs);
        let is_listed = target.layout.is_some() && specs.len() == 1 && !flags.into_index.is_wanted();
        let make = |spec: BuildSpec| {
            let plan = spec.plan(layout.root(), Some(memory), watch)?;
            excluded::say(&plan, watch);
            relocated::say(&plan, watch);
            let built = match is_listed && listing == Listing::AtOnce {
                true => plan.build(&layout, Some(memory), &self.names, watch)?,
                false => plan.build_unlisted(&layout, Some(memory), watch)?,
            };
            Ok(Made { plan, built })
        };
        let made = specs.into_iter().map(make).collect::<Result<Vec<_>>>()?;
        Ok(FinishedBuild { prepared: self, layout, made, listing })
    }
}

impl FinishedBuild<'_> {
    /// Lists the images, copies them to their destinations, and prints what was built.
    fn deliver(self) -> Result<()> {
        let FinishedBuild { prepared, layout, mut made, listing } = self;
        let reporting = prepared.reporting();
        let PreparedBuild { build: Build { flags, target, .. }, watch, cache, shared, robot, names, .. } = &prepared;
        let cache_directory = &flags.request.cache_directory;
        for Made { built, .. } in made.iter().filter(|made| !made.built.remote_layers.is_empty()) {
            if let Some(locations) = blob_locations::open(cache_directory, watch) {
                locations.record_remote_layers(&built.image.descriptor.digest, &built.remote_layers)?;
            }
        }
        if let Some(robot) = robot {
            robot.images.iter().for_each(|image| image.warn_of_unrewritten_paths(watch));
        }
        let locations = match target.destinations.is_empty() {
            true => None,
            false => blob_locations::open(cache_directory, watch),
        };
        let network = flags.request.bases.network();
        let writing = Writing {
            locking: flags.lock.locking(),
            check: flags.write_check.check(),
            network,
            namespace: flags.namespace.name(),
            locations: locations.as_ref(),
            cache: cache.as_ref(),
            cache_directory,
            watch,
        };
        let explains = if flags.cache.explain { Explains::Yes } else { Explains::No };
        match &mut made[..] {
            all if flags.into_index.is_wanted() => {
                let grown = add_to_index(all, target, &layout, names, &writing)?;
                flags.results.write(&grown.descriptor, None, names)?;
                reporting.grown_index(&grown, all, explains)?;
            }
            [only] => {
                let Made { built, .. } = only;
                if target.layout.is_some() && listing == Listing::InTurn {
                    built.replaced = layout.commit_sparse(&built.remote_layers, &built.image, names)?;
                }
                let opened = OpenedImage { image: built.image.clone(), names: names.clone() };
                for destination in &target.destinations {
                    built.replaced.extend(destination.write(&opened, &writing)?.replaced);
                }
                let image = &built.image;
                flags.results.write(&image.descriptor, Some(image.manifest.config.digest), names)?;
                reporting.image(only, explains)?;
            }
            several => {
                let images: Vec<_> = several.iter().map(|made| made.built.image.clone()).collect();
                let index = StoredIndex::of_images(&images, &layout)?;
                let mut replaced = match &target.layout {
                    Some(_) => layout.commit_index(&index, names)?,
                    None => Vec::new(),
                };
                for destination in &target.destinations {
                    replaced.extend(destination.write_index(&index, names, &writing)?.replaced);
                }
                flags.results.write(&index.descriptor, None, names)?;
                reporting.index(&index.descriptor, several, &replaced, explains)?;
            }
        }
        if let Some(shared) = shared {
            for Made { plan, built } in &made {
                flags.shared_cache.publish((shared, cache.as_ref()), (plan, built), network, watch)?;
            }
        }
        if cache.is_some() {
            prepared.bound.keep(cache_directory, watch);
        }
        Ok(())
    }
}

/// Adds the images to the index that the name has where they go: in `layout`, which has them, or at the only destination.
fn add_to_index(
    made: &[Made],
    target: &BuildTarget,
    layout: &Arc<Layout>,
    names: &[ImageName],
    writing: &Writing<'_>,
) -> Result<GrownIndex> {
    let images: Vec<_> = made.iter().map(|made| made.built.image.clone()).collect();
    match &target.destinations[..] {
        [only] => into_index::add(only, names, &images, writing),
        _ => {
            let mut left_out = RemoteLayers::default();
            made.iter().for_each(|made| left_out.extend(made.built.remote_layers.clone()));
            into_index::add_in_layout(layout, names, &images, &left_out, writing)
        }
    }
}

/// Runs the builds of one file. All of them are planned before the first is made, and made beside each
/// other; a layer that several need is made by one of them. Then the images are delivered in the order of the file. Where one
/// fails, the others are still delivered.
///
/// # Errors
/// Fails if one of them cannot be planned, or as the first one that fails. The reasons of the others that fail were reported.
pub(super) fn run_all(builds: &[Build<'_>]) -> Result<ExitCode> {
    let Some(Build { flags, .. }) = builds.first() else { return Ok(ExitCode::SUCCESS) };
    let silent = Arc::new(Watch::nothing());
    let plan = |build: &Build<'_>| build.prepare(&silent)?.plans().map(drop);
    for (build, planned) in builds.iter().zip(for_all(builds, plan)) {
        planned.map_err(|error| build.within(error))?;
    }
    let watch = Arc::new(Watch::new(&flags.common));
    let introduce = |build: &Build<'_>| watch.say(&build.image());
    if flags.dry_run {
        for build in builds {
            introduce(build);
            build.prepare(&watch).and_then(PreparedBuild::print_plans).map_err(|error| build.within(error))?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let in_flight = LayersInFlight::default();
    let make = |build| Build::prepare(build, &watch)?.make(Listing::InTurn, Some(&in_flight));
    let made = for_all(builds, make);
    let mut failed = Vec::new();
    for (build, made) in builds.iter().zip(made) {
        introduce(build);
        failed.extend(made.and_then(FinishedBuild::deliver).err().map(|error| build.within(error)));
    }
    let mut failed = failed.into_iter();
    let Some(first) = failed.next() else { return Ok(ExitCode::SUCCESS) };
    signals::wait_if_interrupted();
    for error in failed {
        report::failure(&error, flags.common.format);
    }
    Err(first)
}

/// Does `work` for all builds, for as many at a time as there are threads, so that memory is not that of all of them.
fn for_all<'b, T: Send + Sync>(
    builds: &'b [Build<'b>],
    work: impl Fn(&'b Build<'b>) -> Result<T> + Sync,
) -> Vec<Result<T>> {
    let next = AtomicUsize::new(0);
    let done: Vec<OnceLock<Result<T>>> = builds.iter().map(|_| OnceLock::new()).collect();
    let take = || {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some((build, slot)) = builds.get(number).zip(done.get(number)) else { return };
            // Each number is taken once, so the slot is empty.
            slot.set(work(build)).ok();
        }
    };
    threads::together(rayon::current_num_threads().min(builds.len()), take);
    let lost = || Err(Error::invalid("build", "stopped unexpectedly"));
    done.into_iter().map(|done| done.into_inner().unwrap_or_else(lost)).collect()
}
