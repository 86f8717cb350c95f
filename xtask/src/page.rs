//! `cargo xtask page`: compiles the client to WebAssembly and writes the folder that the server serves.
//!
//! Lives here: the build, the conversion by wasm-bindgen in this process (nothing to install), the hashed names.
//! Must not live here: reading index.html ([`crate::html`]). Invariant: the folder is replaced as a whole, so a
//! server beside it never sees half a page; every name but index.html carries the hash of its content.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use clap::Args;
use sha2::{Digest, Sha256};
use wasm_bindgen_cli_support::Bindgen;

use crate::error::{Context, Outcome, fail};
use crate::html::{self, Asset, Piece};
use crate::machine;
use crate::order;
use crate::process::{announce, cargo, root, run as run_program, target};
use crate::small;
use crate::soak;

/// What `cargo xtask page` can be told.
#[derive(Args)]
pub(crate) struct Options {
    /// Build the small page that is released, and say what a first visit downloads.
    #[arg(long)]
    release: bool,
    /// Measure what the page that is released costs in a busy room of 100,000 posts, in Chromium.
    #[arg(long)]
    measure: bool,
    /// How long that is measured.
    #[arg(long, default_value_t = 10, requires = "measure", value_parser = clap::value_parser!(u64).range(1..))]
    minutes: u64,
    /// Where to write it.
    #[arg(long, default_value = "dist")]
    into: PathBuf,
}

/// What a first visit may download before the page can be used, in bytes of brotli: what it weighed when this was last
/// set, and a hundredth. To be lowered by whoever makes the page lighter.
const BUDGET: usize = 263_600;

/// How the client is compiled.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Build {
    /// In seconds; panics tell their place.
    Dev,
    /// Small.
    Release,
}

/// Runs the command.
pub(crate) fn run(options: &Options) -> Outcome<ExitCode> {
    machine::wasm_target()?;
    if options.measure {
        machine::c_compiler()?;
        let (folder, browser) = (target().join("xtask").join("released-page"), machine::browser()?);
        build_into(Build::Release, &folder)?;
        let more = [("HOLDFAST_DIST", folder.as_path()), ("HOLDFAST_CHROMIUM", browser.as_path())];
        return soak::campaign("page_speed", options.minutes, "minutes in a busy room", &more);
    }
    let build = if options.release { Build::Release } else { Build::Dev };
    let folder = root().join(&options.into);
    build_into(build, &folder)?;
    if options.release {
        let weight = Weight::of(&folder)?;
        print!("{weight}");
        if weight.compressed() > BUDGET {
            return fail(format!("the page is heavier than its budget of {BUDGET} bytes of brotli: xtask/src/page.rs"));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Builds the page and puts it at `folder`, replacing what was there.
///
/// # Errors
/// The client does not compile, or the folder cannot be written.
pub(crate) fn build_into(build: Build, folder: &Path) -> Outcome {
    announce("Building the page");
    let begun = Instant::now();
    let source = root().join("index.html");
    let html = fs::read_to_string(&source).context(format!("read {}", source.display()))?;
    let pieces = html::parse(&html)?;

    let stage = folder.with_extension("next");
    remove_folder(&stage)?;
    fs::create_dir_all(&stage).context(format!("create {}", stage.display()))?;
    let mut written = String::new();
    let mut sheets = sheets_to_join(build, &pieces)?;
    for piece in pieces {
        match piece {
            Piece::Text(text) => written.push_str(&text),
            Piece::Asset(Asset::Css { .. }) if build == Build::Release => {
                if let Some(sheet) = sheets.take() {
                    written.push_str(&link_to_sheet(&put("page", "css", sheet.as_bytes(), &stage)?));
                }
            }
            Piece::Asset(asset) => written.push_str(&place(build, &asset, &stage)?),
        }
    }
    fs::write(stage.join("index.html"), written).context("write the page's index.html")?;

    remove_folder(folder)?;
    fs::rename(&stage, folder).context(format!("move the new page to {}", folder.display()))?;
    let shown = folder.strip_prefix(root()).unwrap_or(folder).display();
    eprintln!("  the page is in {shown}/ ({:.1} s)", begun.elapsed().as_secs_f32());
    Ok(())
}

/// Reads the style sheets of a released page, as one: it is asked for once, and compresses better.
fn sheets_to_join(build: Build, pieces: &[Piece]) -> Outcome<Option<String>> {
    let mut joined = String::new();
    for piece in pieces {
        if let Piece::Asset(Asset::Css { href }) = piece {
            joined.push_str(&small::style(&read(href)?)?);
        }
    }
    Ok(Some(joined).filter(|joined| build == Build::Release && !joined.is_empty()))
}

fn link_to_sheet(name: &str) -> String {
    format!(r#"<link rel="stylesheet" href="/{name}">"#)
}

/// Writes one asset under its hashed name and returns the element that names it.
fn place(build: Build, asset: &Asset, stage: &Path) -> Outcome<String> {
    Ok(match asset {
        Asset::Rust { manifest, profile_dev, profile_release } => {
            let profile = match build {
                Build::Dev => profile_dev,
                Build::Release => profile_release,
            };
            let (js, wasm) = convert(build, manifest, profile, stage)?;
            html::fill(html::PATTERN_PRELOAD, &js, &wasm) + &html::fill(html::PATTERN_SCRIPT, &js, &wasm)
        }
        Asset::Css { href } => link_to_sheet(&copy(href, read(href)?, stage)?),
        Asset::Icon { href, media_type } => {
            format!(r#"<link rel="icon" type="{media_type}" href="/{}">"#, copy(href, read(href)?, stage)?)
        }
        Asset::Script { src } => {
            let script = match build {
                Build::Dev => read(src)?,
                Build::Release => small::script(&read(src)?)?,
            };
            format!(r#"<script type="module" src="/{}"></script>"#, copy(src, script, stage)?)
        }
        Asset::CopyFile { href } => {
            let name = Path::new(href).file_name().context_missing(href)?;
            fs::copy(root().join(href), stage.join(name)).context(format!("copy {href}"))?;
            String::new()
        }
    })
}

/// Compiles the client and converts it; returns the names of its script and of its module.
fn convert(build: Build, manifest: &str, profile: &str, stage: &Path) -> Outcome<(String, String)> {
    let manifest_path = root().join(manifest);
    let manifest_text = manifest_path.to_string_lossy().into_owned();
    let package = manifest.trim_end_matches("/Cargo.toml");
    run_program(&mut cargo(&[
        "build",
        "--manifest-path",
        &manifest_text,
        "--target",
        machine::WASM_TARGET,
        "--profile",
        profile,
        "--locked",
    ]))?;
    let compiled = target().join(machine::WASM_TARGET).join(profile).join(format!("{package}.wasm"));
    let converted = target().join("xtask").join("bindgen");
    remove_folder(&converted)?;
    let mut names = Vec::new();
    Bindgen::new()
        .input_path(&compiled)
        .web(true)
        .and_then(|bindgen| {
            let mut output = bindgen
                .typescript(false)
                .remove_name_section(build == Build::Release)
                .remove_producers_section(build == Build::Release)
                .generate_output()?;
            if build == Build::Release {
                names = small::number_imports(&mut output);
            }
            output.emit(&converted)
        })
        .map_err(|cause| crate::error::Failure(format!("wasm-bindgen could not convert the client: {cause:#}")))?;

    let snippets = converted.join("snippets");
    if snippets.is_dir() {
        copy_folder(&snippets, &stage.join("snippets"))?;
    }
    let mut module = fs::read(converted.join(format!("{package}_bg.wasm"))).context("read the converted module")?;
    let mut script =
        fs::read_to_string(converted.join(format!("{package}.js"))).context("read the converted script")?;
    if build == Build::Release {
        script = small::script(&small::rename(&script, &names)?)?;
        module = order::by_likeness(&module)?;
    }
    // The script is the module's other half: one hash over both keeps the pair together.
    let hash = hash_of(&[&module, script.as_bytes()]);
    let names = (format!("{package}-{hash}.js"), format!("{package}-{hash}_bg.wasm"));
    fs::write(stage.join(&names.0), script).context("write the page's script")?;
    fs::write(stage.join(&names.1), module).context("write the page's module")?;
    Ok(names)
}

fn read(path: &str) -> Outcome<String> {
    fs::read_to_string(root().join(path)).context(format!("read {path}, which index.html names"))
}

/// Writes what a file holds under its name and a hash.
fn copy(path: &str, content: String, stage: &Path) -> Outcome<String> {
    let file = Path::new(path);
    let stem = file.file_stem().context_missing(path)?;
    let extension = file.extension().context_missing(path)?;
    put(&stem, &extension, content.as_bytes(), stage)
}

/// Writes a file under a name that carries its hash.
fn put(stem: &str, extension: &str, content: &[u8], stage: &Path) -> Outcome<String> {
    let name = format!("{stem}-{}.{extension}", hash_of(&[content]));
    fs::write(stage.join(&name), content).context(format!("write {name}"))?;
    Ok(name)
}

/// The first 64 bits of SHA-256, in hexadecimal: enough that two builds do not share a name by accident.
fn hash_of(parts: &[&[u8]]) -> String {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update(part);
    }
    hasher.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

trait NamePart {
    fn context_missing(self, path: &str) -> Outcome<String>;
}

impl NamePart for Option<&std::ffi::OsStr> {
    fn context_missing(self, path: &str) -> Outcome<String> {
        match self.and_then(std::ffi::OsStr::to_str) {
            Some(part) => Ok(part.to_owned()),
            None => fail(format!("index.html names {path}, which is no file name")),
        }
    }
}

fn remove_folder(folder: &Path) -> Outcome {
    match fs::remove_dir_all(folder) {
        Ok(()) => Ok(()),
        Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(cause) => Err(cause).context(format!("remove {}", folder.display())),
    }
}

fn copy_folder(from: &Path, to: &Path) -> Outcome {
    fs::create_dir_all(to).context(format!("create {}", to.display()))?;
    for entry in fs::read_dir(from).context(format!("read {}", from.display()))? {
        let entry = entry.context(format!("read {}", from.display()))?;
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_folder(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), &target).context(format!("write {}", target.display()))?;
        }
    }
    Ok(())
}

/// Every file of a built page, as paths relative to it, sorted.
pub(crate) fn files(folder: &Path) -> Outcome<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut open = vec![folder.to_path_buf()];
    while let Some(next) = open.pop() {
        for entry in fs::read_dir(&next).context(format!("read {}", next.display()))? {
            let path = entry.context(format!("read {}", next.display()))?.path();
            if path.is_dir() {
                open.push(path);
            } else {
                found.push(path.strip_prefix(folder).expect("found below it").to_path_buf());
            }
        }
    }
    found.sort();
    Ok(found)
}

/// Compresses as the release does: brotli, quality 11, window 2^22.
pub(crate) fn brotli(content: &[u8]) -> Vec<u8> {
    let mut compressed = Vec::new();
    let parameters = brotli::enc::BrotliEncoderParams { quality: 11, lgwin: 22, ..Default::default() };
    brotli::BrotliCompress(&mut &content[..], &mut compressed, &parameters)
        .expect("reading from and writing to memory does not fail");
    compressed
}

/// What a first visit downloads.
pub(crate) struct Weight {
    rows: Vec<(String, usize, usize)>,
}

impl Weight {
    pub(crate) fn of(folder: &Path) -> Outcome<Weight> {
        let mut rows = Vec::new();
        for path in files(folder)? {
            let content = fs::read(folder.join(&path)).context(format!("read {}", path.display()))?;
            rows.push((path.display().to_string(), content.len(), brotli(&content).len()));
        }
        Ok(Weight { rows })
    }

    fn compressed(&self) -> usize {
        self.rows.iter().map(|row| row.2).sum()
    }
}

impl std::fmt::Display for Weight {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let width = self.rows.iter().map(|(name, ..)| name.len()).max().unwrap_or(0);
        writeln!(f, "{:width$}  {:>9}  {:>9}", "file", "bytes", "brotli")?;
        for (name, plain, compressed) in &self.rows {
            writeln!(f, "{name:width$}  {plain:>9}  {compressed:>9}")?;
        }
        let plain: usize = self.rows.iter().map(|row| row.1).sum();
        let compressed = self.compressed();
        writeln!(f, "{:width$}  {plain:>9}  {compressed:>9}", "everything before first paint")?;
        writeln!(f, "before first paint: {:.1} KB brotli", compressed as f64 / 1000.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_changes_with_the_content_and_only_with_it() {
        assert_eq!(hash_of(&[b"ab"]), hash_of(&[b"a", b"b"]));
        assert_ne!(hash_of(&[b"ab"]), hash_of(&[b"ac"]));
        assert_eq!(hash_of(&[b""]).len(), 16);
    }

    #[test]
    fn compression_can_be_undone() {
        let content = b"hold fast, hold fast, hold fast".repeat(50);
        let mut undone = Vec::new();
        brotli::BrotliDecompress(&mut brotli(&content).as_slice(), &mut undone).unwrap();
        assert_eq!(undone, content);
    }
}
