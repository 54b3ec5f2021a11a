use super::*;
use crate::common::error::Error;
use crate::common::progress::Silent;
use crate::rcc::{CatalogLimits, CatalogName};
use serde_json::{Map, Value, json};
use std::io::Cursor;

/// An environment with these files, to determine their owners.
struct Scene {
    files: BTreeMap<String, Vec<u8>>,
}

const SITE: &str = "lib/python3.11/site-packages";

impl Scene {
    fn new(files: &[(&str, &str)]) -> Scene {
        let files = files
            .iter()
            .map(|(path, content)| (path.replace("SITE", SITE), content.replace("SITE", SITE).into_bytes()));
        Scene { files: files.collect() }
    }

    fn catalog(&self) -> Catalog {
        let mut tree = directory("");
        for (path, content) in &self.files {
            let mut place = &mut tree;
            let (folders, name) = path.rsplit_once('/').unwrap_or(("", path));
            for folder in folders.split('/').filter(|folder| !folder.is_empty()) {
                let directories = place["subdirs"].as_object_mut().unwrap();
                place = directories.entry(folder).or_insert_with(|| directory(folder));
            }
            let digest = crate::Digest::of(content).hex();
            place["files"][name] =
                json!({ "name": name, "size": content.len(), "mode": 420, "digest": digest, "rewrite": [] });
        }
        let document = json!({
            "identity": "hdc4d952_493f813dad24d3t", "path": "/base/hdc4d952_493f813dad24d3t",
            "platform": "linux_amd64", "blueprint": "5f74d1b6dace1dfc", "tree": tree,
        });
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut packed, document.to_string().as_bytes()).unwrap();
        let name = CatalogName::parse("5f74d1b6dace1dfcv12.linux_amd64").unwrap();
        Catalog::read(&packed.finish().unwrap()[..], &name, &CatalogLimits::default(), &Silent).unwrap()
    }

    fn find(&self) -> Result<BTreeMap<String, String>> {
        let catalog = self.catalog();
        let packages = Packages::find(&catalog, |path, _| Ok(Box::new(Cursor::new(self.files[path].clone()))))?;
        let owned = catalog
            .entries()
            .enumerate()
            .filter_map(|(number, entry)| Some((entry.path.replace(SITE, "SITE"), packages.owner(number)?.to_owned())));
        Ok(owned.collect())
    }

    #[track_caller]
    fn owns(&self, expected: &[(&str, &str)]) {
        let expected = expected.iter().map(|(path, owner)| ((*path).to_owned(), (*owner).to_owned())).collect();
        assert_eq!(self.find().unwrap(), expected);
    }
}

fn directory(name: &str) -> Value {
    json!({ "name": name, "mode": 2_147_484_141_u32, "subdirs": Map::new(), "files": Map::new() })
}

#[test]
fn files_belong_to_the_package_that_lists_them() {
    let scene = Scene::new(&[
        ("bin/python", ""),
        ("bin/tool", ""),
        ("conda-meta/history", "made by hand"),
        ("conda-meta/python-3.11.7-h1_0.json", r#"{"files": ["bin/python", "lib/missing", "../outside", "bin"]}"#),
        ("SITE/tool/__init__.py", ""),
        ("SITE/tool/__pycache__/__init__.cpython-311.pyc", ""),
        ("SITE/tool/made_later", ""),
        ("SITE/Tool_Box-1.0.dist-info/RECORD", "tool/__init__.py,sha256=x,0\r\n../../../bin/tool,,\r\n"),
        ("SITE/Tool_Box-1.0.dist-info/INSTALLER", "pip"),
        ("SITE/stray.pyc", ""),
    ]);
    scene.owns(&[
        ("bin/python", "python"),
        ("bin/tool", "tool-box"),
        ("conda-meta/python-3.11.7-h1_0.json", "python"),
        ("SITE/Tool_Box-1.0.dist-info/INSTALLER", "tool-box"),
        ("SITE/Tool_Box-1.0.dist-info/RECORD", "tool-box"),
        ("SITE/tool/__init__.py", "tool-box"),
        ("SITE/tool/__pycache__/__init__.cpython-311.pyc", "tool-box"),
    ]);
}

#[test]
fn what_several_packages_claim_is_condas_else_the_first_ones() {
    let scene = Scene::new(&[
        ("conda-meta/z-1-0.json", r#"{"files": ["a/shared", "a/both"]}"#),
        ("conda-meta/y-1-0.json", r#"{"files": ["a/both"]}"#),
        ("SITE/a-1.dist-info/RECORD", "../../../a/shared,,\n"),
        ("a/both", ""),
        ("a/shared", ""),
    ]);
    let owners = scene.find().unwrap();
    assert_eq!((owners["a/shared"].as_str(), owners["a/both"].as_str()), ("z", "y"));
}

#[test]
fn a_distribution_in_a_package_of_conda_is_a_part_of_it() {
    let scene = Scene::new(&[
        ("conda-meta/matplotlib-base-3.8-py311_0.json", r#"{"files": ["SITE/matplotlib-3.8.dist-info/RECORD"]}"#),
        ("SITE/matplotlib-3.8.dist-info/RECORD", "matplotlib/more.py,,\n"),
        ("SITE/matplotlib-3.8.dist-info/direct_url.json", "{}"),
        ("SITE/matplotlib/more.py", ""),
    ]);
    let owners = scene.find().unwrap();
    assert_eq!(owners.len(), 4);
    assert!(owners.values().all(|owner| owner == "matplotlib-base"), "{owners:?}");
}

#[test]
fn absurd_lists_belong_to_no_package() {
    let huge = "x".repeat(LARGEST_LIST as usize + 1);
    let scene = Scene::new(&[
        ("bin/a", ""),
        ("conda-meta/one-1-0.json", r#"{"files": ["bin/a"], "more": "#),
        ("conda-meta/--.json", r#"{"files": ["bin/a"]}"#),
        ("conda-meta/na me-1-0.json", r#"{"files": ["bin/a"]}"#),
        ("conda-meta/deep/two-1-0.json", r#"{"files": ["bin/a"]}"#),
        ("conda-meta/three-1-0.json", &huge),
        ("SITE/.dist-info/RECORD", "../../../bin/a"),
        ("SITE/four-1.dist-info/RECORD", "\"../../../bin/a"),
        ("SITE/five-1.dist-info/RECORD", "../../../../../bin/a\n/bin/a\n"),
    ]);
    scene.owns(&[("SITE/five-1.dist-info/RECORD", "five")]);
}

#[test]
fn lists_are_read_up_to_a_limit_together() {
    let large = format!("{{\"files\": [\"bin/a\"]}}{}", " ".repeat(LARGEST_LIST as usize - 100));
    let mut files: Vec<(String, String)> =
        (0..9).map(|number| (format!("conda-meta/p{number}-1-0.json"), large.clone())).collect();
    files.push(("bin/a".to_owned(), String::new()));
    let files: Vec<(&str, &str)> = files.iter().map(|(path, content)| (path.as_str(), content.as_str())).collect();
    let owners = Scene::new(&files).find().unwrap();
    assert_eq!((owners["bin/a"].as_str(), owners.len()), ("p0", 9), "{:?}", owners.keys());
}

#[test]
fn a_damaged_list_is_an_error() {
    let scene = Scene::new(&[("conda-meta/a-1-0.json", "{}")]);
    let found = Packages::find(&scene.catalog(), |_, _| Err(Error::corrupt("library file", "damaged")));
    assert!(found.unwrap_err().to_string().contains("damaged"));
}
