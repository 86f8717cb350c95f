//! The order in which the functions of a released module stand.
//!
//! Functions that take and return the same and begin alike stand beside each other: compression then finds what they have
//! in common nearby. wasm-bindgen writes them by size. Must not live here: changing what a function does. Invariant:
//! every function is there once, and whatever named one names the same one afterwards.

use std::convert::Infallible;

use wasm_encoder::reencode::{Error, Reencode};
use wasm_encoder::{CodeSection, FunctionSection, Module};
use wasmparser::{CodeSectionReader, FunctionSectionReader, Parser, Payload, TypeRef};

use crate::error::{Context, Outcome};

/// Writes a module again, with its functions in a better order. Custom sections must not name functions by number.
///
/// # Errors
/// If it is no module.
pub(crate) fn by_likeness(module: &[u8]) -> Outcome<Vec<u8>> {
    let mut order = Order::of(module).context("read the converted module")?;
    let mut written = Module::new();
    order.parse_core_module(&mut written, Parser::new(0), module).context("put the module's functions in order")?;
    Ok(written.finish())
}

/// Where each function goes.
struct Order {
    /// How many functions are imported: they are counted first and stay where they are.
    imported: u32,
    /// The module's own functions in the new order, each by its place in the old one.
    old: Vec<usize>,
    /// The other way round.
    new: Vec<u32>,
}

impl Order {
    fn of(module: &[u8]) -> Result<Self, wasmparser::BinaryReaderError> {
        let (mut imported, mut types, mut bodies) = (0, Vec::new(), Vec::new());
        for payload in Parser::new(0).parse_all(module) {
            match payload? {
                Payload::ImportSection(section) => {
                    for import in section.into_imports() {
                        imported += u32::from(matches!(import?.ty, TypeRef::Func(_)));
                    }
                }
                Payload::FunctionSection(section) => types = section.into_iter().collect::<Result<_, _>>()?,
                Payload::CodeSectionEntry(body) => bodies.push(body.as_bytes()),
                _ => {}
            }
        }
        let mut functions: Vec<_> = types.into_iter().zip(bodies).enumerate().collect();
        functions.sort_by_key(|(_, function): &(usize, (u32, &[u8]))| *function);
        let old: Vec<usize> = functions.into_iter().map(|(place, _)| place).collect();
        let mut new = vec![0; old.len()];
        for (place, old) in (0..).zip(&old) {
            new[*old] = place;
        }
        Ok(Self { imported, old, new })
    }
}

impl Reencode for Order {
    type Error = Infallible;

    fn function_index(&mut self, function: u32) -> Result<u32, Error> {
        Ok(match function.checked_sub(self.imported) {
            Some(own) => self.imported + self.new[own as usize],
            None => function,
        })
    }

    fn parse_function_section(
        &mut self,
        functions: &mut FunctionSection,
        section: FunctionSectionReader<'_>,
    ) -> Result<(), Error> {
        let types: Vec<u32> = section.into_iter().collect::<Result<_, _>>()?;
        for old in &self.old {
            functions.function(types[*old]);
        }
        Ok(())
    }

    fn parse_code_section(&mut self, code: &mut CodeSection, section: CodeSectionReader<'_>) -> Result<(), Error> {
        let bodies: Vec<_> = section.into_iter().collect::<Result<_, _>>()?;
        for old in self.old.clone() {
            self.parse_function_body(code, bodies[old].clone())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use wasm_encoder::{EntityType, ExportKind, ExportSection, Function, ImportSection, TypeSection, ValType};

    use super::*;

    /// A module with an import and three functions, of which one calls the last and the import.
    fn module() -> Vec<u8> {
        let mut module = Module::new();
        let mut types = TypeSection::new();
        types.ty().function([], [ValType::I32]);
        types.ty().function([], []);
        let mut imports = ImportSection::new();
        imports.import("script", "call", EntityType::Function(1));
        let (mut functions, mut exports, mut code) = (FunctionSection::new(), ExportSection::new(), CodeSection::new());
        for (place, (ty, name)) in (1..).zip([(1, "calls"), (0, "nine"), (0, "four")]) {
            functions.function(ty);
            exports.export(name, ExportKind::Func, place);
        }
        let mut calls = Function::new([]);
        calls.instructions().call(3).drop().call(0).end();
        code.function(&calls);
        for number in [9, 4] {
            let mut answers = Function::new([]);
            answers.instructions().i32_const(number).end();
            code.function(&answers);
        }
        module.section(&types).section(&imports).section(&functions).section(&exports).section(&code);
        module.finish()
    }

    /// What stands in the module: the names of its exports with what each does.
    fn told(module: &[u8]) -> Vec<(String, String)> {
        let (mut exports, mut bodies) = (Vec::new(), Vec::new());
        for payload in Parser::new(0).parse_all(module) {
            match payload.unwrap() {
                Payload::ExportSection(section) => exports.extend(section.into_iter().map(Result::unwrap)),
                Payload::CodeSectionEntry(body) => {
                    let operators = body.get_operators_reader().unwrap().into_iter();
                    bodies.push(operators.map(|operator| format!("{:?}; ", operator.unwrap())).collect::<String>());
                }
                _ => {}
            }
        }
        exports.iter().map(|export| (export.name.to_owned(), bodies[export.index as usize - 1].clone())).collect()
    }

    #[test]
    fn functions_that_begin_alike_are_neighbours_and_every_name_means_what_it_meant() {
        let ordered = by_likeness(&module()).unwrap();
        let told = told(&ordered);
        let does = |name: &str| told.iter().find(|(export, _)| export == name).map(|(_, does)| does.clone()).unwrap();
        assert!(does("four").contains("value: 4"), "{told:?}");
        assert!(does("nine").contains("value: 9"), "{told:?}");
        // By what they return, then by what they do: four, nine, calls.
        assert!(does("calls").contains("function_index: 1") && does("calls").contains("function_index: 0"), "{told:?}");
        assert_eq!(Order::of(&module()).unwrap().old, [2, 1, 0]);
        assert_eq!(by_likeness(&ordered).unwrap(), ordered);
    }

    #[test]
    fn what_is_no_module_is_refused() {
        assert!(by_likeness(b"no module").is_err());
    }
}
