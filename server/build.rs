//! Puts a built page into the binary where `HOLDFAST_EMBED` names its folder (`cargo xtask dist` does); else nothing.
//!
//! Lives here: writing the list of `EmbeddedFile` that the server includes. Must not live here: building or
//! compressing the page. Invariant: without the variable the build depends on no file outside the package.

use std::fs;
use std::path::{Path, PathBuf};

fn main() {
    println!("cargo::rerun-if-env-changed=HOLDFAST_EMBED");
    let mut list = String::from("pub(crate) static EMBEDDED: &[EmbeddedFile] = &[\n");
    if let Some(folder) = std::env::var_os("HOLDFAST_EMBED").map(PathBuf::from) {
        println!("cargo::rerun-if-changed={}", folder.display());
        let mut paths = Vec::new();
        collect(&folder, &mut paths);
        paths.sort();
        assert!(!paths.is_empty(), "HOLDFAST_EMBED={} holds no page; `cargo xtask dist` builds it", folder.display());
        for path in paths.iter().filter(|path| path.extension().is_none_or(|extension| extension != "br")) {
            let name = path.strip_prefix(&folder).expect("found below it").to_string_lossy().replace('\\', "/");
            let compressed = PathBuf::from(format!("{}.br", path.display()));
            let brotli = if compressed.is_file() {
                format!("Some(include_bytes!({:?}))", compressed.display().to_string())
            } else {
                "None".to_owned()
            };
            list.push_str(&format!(
                "    EmbeddedFile {{ path: {name:?}, identity: include_bytes!({:?}), brotli: {brotli} }},\n",
                path.display().to_string()
            ));
        }
    }
    list.push_str("];\n");
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join("embedded.rs");
    fs::write(out, list).expect("OUT_DIR can be written");
}

fn collect(folder: &Path, paths: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("HOLDFAST_EMBED names a folder") {
        let path = entry.expect("the folder can be read").path();
        if path.is_dir() { collect(&path, paths) } else { paths.push(path) }
    }
}
