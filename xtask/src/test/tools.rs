//! Tools that are cargo packages of their own.
//!
//! Lives here: finding or installing them in the exact versions; trunk and wasm-bindgen for the step `trunk`. Must not
//! live here: what uses them (e2e/tests/trunk.rs, [`crate::fuzz`]). Invariant: whatever is installed goes into the target folder, nothing outside the
//! clone changes.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::error::{Context, Outcome, fail};
use crate::process::{announce, binary, cargo, root, run, target};
use crate::test::suites::Environment;

/// The trunk that this page is known to build with.
const TRUNK_VERSION: &str = "0.21.14";

/// Finds or installs trunk and the wasm-bindgen it calls, and tells the tests where they are.
///
/// # Errors
/// One of them could not be installed.
pub(crate) fn trunk(environment: &mut Environment) -> Outcome {
    let bindgen_version = locked_version("wasm-bindgen")?;
    let trunk = tool("trunk", "trunk", TRUNK_VERSION, &["--locked"])?;
    let bindgen = tool("wasm-bindgen", "wasm-bindgen-cli", &bindgen_version, &[])?;
    let mut path: Vec<PathBuf> = bindgen.parent().map(PathBuf::from).into_iter().collect();
    path.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
    environment.set("PATH", std::env::join_paths(path).context("put wasm-bindgen on the PATH")?);
    environment.set("HOLDFAST_TRUNK", trunk);
    Ok(())
}

/// The version of a package in Cargo.lock.
fn locked_version(package: &str) -> Outcome<String> {
    let lock = std::fs::read_to_string(root().join("Cargo.lock")).context("read Cargo.lock")?;
    let start = format!("name = \"{package}\"\nversion = \"");
    match lock.split_once(&start).and_then(|(_, rest)| rest.split_once('"')) {
        Some((version, _)) => Ok(version.to_owned()),
        None => fail(format!("Cargo.lock does not name {package}")),
    }
}

/// A program of the exact version: from the PATH, from the target folder, or installed into the target folder.
///
/// # Errors
/// It could not be installed.
pub(crate) fn tool(program: &str, package: &str, version: &str, options: &[&str]) -> Outcome<PathBuf> {
    let tools = target().join("tools");
    let ours = tools.join("bin").join(binary(program));
    for candidate in crate::machine::find(&binary(program)).into_iter().chain([ours.clone()]) {
        if version_of(&candidate).as_deref() == Some(version) {
            return Ok(candidate);
        }
    }
    announce(&format!("Installing {package} {version} into {} (once, some minutes)", tools.display()));
    let tools_text = tools.to_string_lossy().into_owned();
    let exact = format!("={version}");
    let mut arguments = vec!["install", "--debug", package, "--version", &exact, "--root", &tools_text];
    arguments.extend(options);
    // Warnings inside somebody else's package are none of ours.
    run(cargo(&arguments).env("RUSTFLAGS", "--cap-lints allow"))?;
    if version_of(&ours).as_deref() == Some(version) {
        Ok(ours)
    } else {
        fail(format!("{} is not version {version} after its installation", ours.display()))
    }
}

/// The last word of what `--version` prints first.
fn version_of(program: &std::path::Path) -> Option<String> {
    let output = Command::new(program).arg("--version").stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    text.lines().next()?.split_whitespace().nth(1).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wasm_bindgen_on_the_path_of_trunk_is_the_one_that_converts_in_process() {
        let locked = locked_version("wasm-bindgen").unwrap();
        assert_eq!(locked, locked_version("wasm-bindgen-cli-support").unwrap());
    }

    #[test]
    fn a_missing_program_has_no_version() {
        assert_eq!(version_of(std::path::Path::new("no-such-program-here")), None);
    }
}
