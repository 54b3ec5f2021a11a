//! Adds a file to an image as a new layer, and pushes the result to a registry.
//!
//! BASE is an image in a layout or an archive, in the notation of skopeo. The new image is built in LAYOUT, which is created
//! if it is missing. CERTIFICATES is a PEM file of the certificate authorities to trust; a registry at a loopback address
//! may do without TLS. The pushed reference is printed:
//!
//! ```text
//! cargo run --example append_and_push -- \
//!     oci-archive:base.tar ./app /usr/bin/app ./out registry.example.com/team/app:v1 /etc/ssl/certs/ca-certificates.crt
//! ```

use ocibuild::common::bounded_read;
use ocibuild::registry::credentials::Keychain;
use ocibuild::registry::{Network, Options, Transport, certificates};
use ocibuild::{
    Base, BuildSpec, ImageName, LayerSpec, Layout, Reference, Registry, Repository, Root, Silent, Source, copy,
};
use std::error::Error;
use std::io::Write;
use std::sync::Arc;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (base, file, path, layout, reference, authorities) = match &arguments[..] {
        [base, file, path, layout, reference] => (base, file, path, layout, reference, None),
        [base, file, path, layout, reference, pem] => (base, file, path, layout, reference, Some(pem)),
        _ => return Err("usage: append_and_push BASE FILE PATH LAYOUT REFERENCE [CERTIFICATES]".into()),
    };
    let base = Base::open(&base.parse()?, None)?;
    let layer = LayerSpec::new("app").source(Source::file(file, path.parse()?)?);
    let layout = Arc::new(Layout::create(layout.as_ref())?);
    let reference: Reference = reference.parse()?;
    let names = [ImageName::of_reference(&reference)];
    let built = BuildSpec::new(base).layer(layer).build(&layout, &names, &Silent)?;

    let mut network = Network::default();
    if let Some(pem) = authorities {
        const LARGEST: u64 = 8 << 20;
        let bytes = bounded_read::read(Root::open_named_file(pem.as_ref())?, LARGEST, pem)?;
        network.authorities = certificates(&bytes, pem)?;
    }
    let transport = Arc::new(Transport::new(network)?);
    let keychain = Arc::new(Keychain::anonymous());
    let registry = Registry::new(reference.registry(), transport, keychain, Options::default(), Arc::new(Silent));
    let repository = Repository::new(Arc::new(registry), &reference)?;
    copy(&built.image, &repository, &names, &Silent)?;
    let pushed = reference.with_digest(built.image.descriptor.digest);
    writeln!(std::io::stdout(), "{pushed}")?;
    Ok(())
}
