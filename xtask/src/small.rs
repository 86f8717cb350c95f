//! What is left out of the files of a released page: names that only two files must agree on, comments, indentation.
//!
//! Must not live here: what the compiler leaves out. Invariant: the page does the same; a file that is written in a way
//! this module does not expect is an error, never a guess.

use wasm_bindgen_cli_support::Output;

use crate::error::{Outcome, fail};

/// Numbers what the module imports from its script. wasm-bindgen's names end in sixteen random digits that no compression
/// makes smaller, and stand in both files. Returns what each is called now, to be [`rename`]d in the script.
pub(crate) fn number_imports(output: &mut Output) -> Vec<(String, String)> {
    let imports = output.wasm_mut().imports.iter_mut().filter(|import| import.name.starts_with("__wbg_"));
    let number = |(number, name): (usize, &mut String)| {
        let old = std::mem::replace(name, number.to_string());
        (old, name.clone())
    };
    imports.map(|import| &mut import.name).enumerate().map(number).collect()
}

/// Gives the script's side of the imports the names that the module has for them.
///
/// # Errors
/// If a name does not stand there exactly once, as the key of an object.
pub(crate) fn rename(script: &str, names: &[(String, String)]) -> Outcome<String> {
    let mut script = script.to_owned();
    for (old, new) in names {
        if script.matches(old.as_str()).count() != 1 || !script.contains(&format!(" {old}: ")) {
            return fail(format!("wasm-bindgen does not write {old} as the key of an object any more"));
        }
        script = script.replacen(old.as_str(), new, 1);
    }
    Ok(script)
}

/// Leaves out indentation, and comments that have a line of their own.
///
/// # Errors
/// If a template string goes on in the next line: what it begins with would be taken for indentation.
pub(crate) fn script(text: &str) -> Outcome<String> {
    let mut kept = String::new();
    let mut in_comment = false;
    for line in text.lines().map(str::trim) {
        if in_comment || line.starts_with("/*") {
            in_comment = !line.ends_with("*/");
            continue;
        }
        if line.is_empty() || line.starts_with("//") {
            continue;
        }
        if !line.matches('`').count().is_multiple_of(2) {
            return fail(format!("a template string must end in its line: {line}"));
        }
        kept.push_str(line);
        kept.push('\n');
    }
    Ok(kept)
}

/// Leaves out comments and indentation.
///
/// # Errors
/// If a comment has no end.
pub(crate) fn style(text: &str) -> Outcome<String> {
    let mut kept = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("/*") {
        kept.push_str(before);
        let Some((_, after)) = after.split_once("*/") else { return fail("a comment in a style sheet has no end") };
        rest = after;
    }
    kept.push_str(rest);
    let lines = kept.lines().map(str::trim).filter(|line| !line.is_empty());
    Ok(lines.flat_map(|line| [line, "\n"]).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_keeps_its_statements_and_loses_what_is_between_them() {
        let text = "// Begins.\nif (a) {\n    /**\n     * Does it.\n     */\n    f(`//${b}`); // stays\n}\n\n";
        assert_eq!(script(text).unwrap(), "if (a) {\nf(`//${b}`); // stays\n}\n");
        assert!(script("f(`two\n lines`)").is_err());
    }

    #[test]
    fn a_style_sheet_keeps_its_rules() {
        let text = "/* One\n   two */\n.a {\n  color: red; /* why */\n}\n";
        assert_eq!(style(text).unwrap(), ".a {\ncolor: red;\n}\n");
        assert!(style("/* for ever").is_err());
    }

    #[test]
    fn a_name_is_taken_over_only_where_it_stands_once_as_a_key() {
        let names = [("__wbg_focus_0a8d".to_owned(), "7".to_owned())];
        assert_eq!(rename("{ __wbg_focus_0a8d: function() {} }", &names).unwrap(), "{ 7: function() {} }");
        assert!(rename("", &names).is_err());
        assert!(rename("{ __wbg_focus_0a8d: f, b: __wbg_focus_0a8d }", &names).is_err());
    }
}
