//! `plugin-api/c/reprise_plugin.h` is what is made here from the sources of the ABI.
//! `REPRISE_UPDATE=1 cargo test -p reprise-abi --test header` writes it; read the diff: it may only grow.
//!
//! An own generator, because there is little to translate, and because a tool that knows all of Rust would pass over
//! what it does not understand: here anything unusual is a panic.
#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a test program that reads the sources and writes their header"
)]

use reprise_abi::{c::CPlugin, hot, root::DevHandle};
use std::{env, fmt::Write as _, fs, path::Path};
use syn::{
    Attribute, BinOp, Expr, ExprLit, Fields, File, Item, ItemConst, ItemStruct, Lit, Meta, PointerMutability,
    ReturnType, Type, TypeFnPtr, Visibility,
};

/// Where the sources and the header are, from this crate's folder.
const HEADER: &str = "../c/reprise_plugin.h";

/// The structs of the header and what Rust makes of them.
const SIZES: &[(&str, usize)] = &[
    ("IoRes", size_of::<hot::IoRes>()),
    ("RamWindow", size_of::<hot::RamWindow>()),
    ("BlkInfo", size_of::<hot::BlkInfo>()),
    ("BlkReq", size_of::<hot::BlkReq>()),
    ("CtxRaw", size_of::<hot::CtxRaw>()),
    ("HostVtbl", size_of::<hot::HostVtbl>()),
    ("DevVtbl", size_of::<hot::DevVtbl>()),
    ("DevHandle", size_of::<DevHandle>()),
    ("CPlugin", size_of::<CPlugin>()),
];

/// The types of functions, which in C are not types of pointers to them.
const FUNCTIONS: &[&str] = &["Sink", "Entry", "Describe", "DescribeWith", "Create"];

/// The protocols of links, each a file of `link`.
const PROTOCOLS: [&str; 4] = ["gpio", "i2c", "spi", "stream"];

const LINE_CHARS: usize = 120;

const PREAMBLE: &str = r#"/*
 * reprise_plugin.h: a device for Reprise in C, or in whatever can call C.
 *
 * Made from the sources of reprise-abi, where this contract is kept and frozen; do not edit. Within major version 1 it
 * only grows: tables at their ends, each with its size in bytes in front, and constants by new ones. A plugin that was
 * built with an older header keeps loading, and an older host ignores what a newer plugin has behind its own tables.
 *
 * A plugin is a shared library `libreprise_plugin_NAME.so` with this function:
 *
 *     const ReprisePlugin *reprise_plugin_entry(void);
 *
 * Its table describes device kinds as JSON, and creates instances. Each instance comes with a table of functions that
 * the host calls, one at a time, on one thread, and never from within another one of the same device. During a call the
 * device may use the host's own table, `cx->vtbl`, with `cx->host` as first argument; neither outlives the call.
 *
 * A recorded run is replayed by computing it again. So a device is a function of its state and of what the host hands
 * it, and of nothing else: no clocks, threads, files, sockets, environment, uninitialised bytes or numbers made from
 * addresses. Everything that it remembers is in what `save` writes; see reprise_state.h, which writes and reads it.
 */
#ifndef REPRISE_PLUGIN_H
#define REPRISE_PLUGIN_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif
"#;

const EPILOGUE: &str = r#"
/* What a plugin defines. */
#if defined(__GNUC__)
__attribute__((visibility("default")))
#endif
const ReprisePlugin *reprise_plugin_entry(void);

#ifdef __cplusplus
}
#endif

#endif
"#;

#[test]
fn the_header_is_what_the_sources_say() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read =
        |name: &str| syn::parse_file(&fs::read_to_string(here.join("src").join(name)).unwrap()).unwrap();
    let mut items = read("hot.rs").items;
    items.extend(read("root.rs").items.into_iter().filter(is_handle));
    items.extend(read("c.rs").items);
    let protocols = PROTOCOLS.map(|name| (name, read(&format!("link/{name}.rs"))));
    let now = header(&items, &protocols);
    let path = here.join(HEADER);
    if env::var_os("REPRISE_UPDATE").is_some() {
        fs::write(&path, &now).unwrap();
    }
    let then = fs::read_to_string(&path).unwrap_or_default();
    assert!(now == then, "{HEADER} is not what the sources say; REPRISE_UPDATE=1 writes it");
}

/// The rest of `root.rs` is `abi_stable`'s.
fn is_handle(item: &Item) -> bool {
    matches!(item, Item::Struct(item) if item.ident == "DevHandle")
}

fn header(items: &[Item], protocols: &[(&str, File)]) -> String {
    let mut out = PREAMBLE.to_owned();
    out.push('\n');
    for (name, _) in SIZES {
        let c = type_name(name);
        writeln!(out, "typedef struct {c} {c};").unwrap();
    }
    let mut structs = Vec::new();
    for item in items {
        match item {
            Item::Const(item) if is_public(&item.vis) => out += &constant(item, ""),
            Item::Struct(item) => {
                structs.push(item.ident.to_string());
                out += &structure(item);
            }
            Item::Type(item) => {
                let Type::FnPtr(function) = &*item.ty else { panic!("type {}", item.ident) };
                let declared = declare_function(function, &type_name(&item.ident.to_string()));
                writeln!(
                    out,
                    "\n{}{};",
                    comment(&item.attrs, ""),
                    folded(&format!("typedef {declared}"), "")
                )
                .unwrap();
            }
            // Imports, and assertions of this crate.
            Item::Use(_) | Item::Const(_) => {}
            Item::Fn(item) => panic!("fn {} has no place in the header", item.sig.ident),
            _ => panic!("something that is no constant, struct or type has no place in the header"),
        }
    }
    out.extend(protocols.iter().map(|(name, file)| protocol(name, file)));
    out += &assertions(&structs);
    out + EPILOGUE
}

/// What a protocol is, and the numbers of its words. Its types are Rust's alone.
fn protocol(name: &str, file: &File) -> String {
    let lines: Vec<String> = file.attrs.iter().filter_map(doc_line).collect();
    let text = in_c(&lines.join("\n"));
    let paragraphs = text.split("\n\n").map(|paragraph| {
        let words: Vec<&str> = paragraph.split_whitespace().collect();
        broken(&words, "", " * ", "").trim_start().to_owned()
    });
    let paragraphs: Vec<String> = paragraphs.collect();
    let mut out = format!("\n/* {} */\n", paragraphs.join("\n *\n * "));
    let prefix = format!("{}_", name.to_uppercase());
    for item in &file.items {
        if let Item::Const(item) = item
            && is_public(&item.vis)
        {
            out += &constant(item, &prefix);
        }
    }
    out
}

fn is_public(vis: &Visibility) -> bool {
    matches!(vis, Visibility::Public(_))
}

/// Sizes as Rust has them, for whoever compiles as C11 or C++11.
fn assertions(structs: &[String]) -> String {
    let sized: Vec<&str> = SIZES.iter().map(|(name, _)| *name).collect();
    assert!(structs.iter().all(|name| sized.contains(&name.as_str())), "{structs:?}, but sizes of {sized:?}");
    assert_eq!(structs.len(), sized.len());
    let mut out = "\n#if defined(__cplusplus) && __cplusplus >= 201103L\n".to_owned();
    out += "#define REPRISE_SIZE_(type, size) static_assert(sizeof(type) == size, #type)\n";
    out += "#elif defined(__STDC_VERSION__) && __STDC_VERSION__ >= 201112L\n";
    out += "#define REPRISE_SIZE_(type, size) _Static_assert(sizeof(type) == size, #type)\n";
    out += "#endif\n#ifdef REPRISE_SIZE_\n";
    for (name, size) in SIZES {
        writeln!(out, "REPRISE_SIZE_({}, {size});", type_name(name)).unwrap();
    }
    out + "#undef REPRISE_SIZE_\n#endif\n"
}

fn type_name(rust: &str) -> String {
    match rust {
        "CPlugin" => "ReprisePlugin".to_owned(),
        "CtxRaw" => "RepriseCtx".to_owned(),
        other => format!("Reprise{other}"),
    }
}

/// `prefix` is of a module whose names would mean nothing alone.
fn constant(item: &ItemConst, prefix: &str) -> String {
    let name = format!("REPRISE_{prefix}{}", item.ident);
    let Type::Path(path) = &*item.ty else {
        return match &*item.expr {
            Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) if !prefix.is_empty() => {
                format!("\n{}#define {name} \"{}\"\n", comment(&item.attrs, ""), text.value())
            }
            // A name rather than a number: said in the preamble.
            _ => String::new(),
        };
    };
    let of = path.path.get_ident().unwrap().to_string();
    let suffix = match of.as_str() {
        "u8" | "u32" => "u",
        "u64" => "ull",
        _ => panic!("constant {} is a {of}", item.ident),
    };
    format!("\n{}#define {name} {}\n", comment(&item.attrs, ""), expression(&item.expr, suffix))
}

fn expression(expr: &Expr, suffix: &str) -> String {
    match expr {
        Expr::Lit(lit) => match &lit.lit {
            Lit::Int(int) => format!("{}{suffix}", int.base10_digits()),
            _ => panic!("a constant that is no integer"),
        },
        Expr::Binary(binary) if matches!(binary.op, BinOp::Shl(_)) => {
            let by = expression(&binary.right, "");
            format!("({} << {by})", expression(&binary.left, suffix))
        }
        _ => panic!("a constant that is no integer and no shift"),
    }
}

fn structure(item: &ItemStruct) -> String {
    let is_c = item.attrs.iter().any(|attr| match &attr.meta {
        Meta::List(list) => list.path.is_ident("repr") && list.tokens.to_string() == "C",
        _ => false,
    });
    assert!(is_c, "{} is not repr(C)", item.ident);
    let Fields::Named(fields) = &item.fields else { panic!("{} has nameless fields", item.ident) };
    let name = type_name(&item.ident.to_string());
    let mut out = format!("\n{}struct {name} {{\n", comment(&item.attrs, ""));
    for field in &fields.named {
        let declared = declare(&field.ty, &field.ident.as_ref().unwrap().to_string());
        writeln!(out, "{}{};", comment(&field.attrs, "  "), folded(&declared, "  ")).unwrap();
    }
    out + "};\n"
}

/// A declaration on lines that fit, broken between arguments.
fn folded(declaration: &str, indent: &str) -> String {
    let spaced = declaration.replace(", ", ",\u{1}");
    broken(&spaced.split('\u{1}').collect::<Vec<_>>(), indent, "    ", indent)
}

/// A declaration of `name` with this type.
fn declare(ty: &Type, name: &str) -> String {
    match ty {
        Type::FnPtr(function) => declare_function(function, &format!("(*{name})")),
        Type::Array(array) => declare(&array.elem, &format!("{name}[{}]", expression(&array.len, ""))),
        Type::Ptr(pointer) => {
            let constant = match pointer.mutability {
                PointerMutability::Const(_) => "const ",
                PointerMutability::Mut(_) => "",
            };
            format!("{constant}{}", declare(&pointer.elem, &format!("*{name}")))
        }
        Type::Path(path) => declare_path(path.path.segments.last().unwrap(), name),
        _ => panic!("{name} has a type that C does not"),
    }
}

fn declare_path(segment: &syn::PathSegment, name: &str) -> String {
    let of = segment.ident.to_string();
    let c = match of.as_str() {
        "u8" | "u32" | "u64" => format!("{of}_t").replace('u', "uint"),
        "c_void" => "void".to_owned(),
        "c_char" => "char".to_owned(),
        // A function pointer that Rust lets be null; the contract does not.
        "Option" => {
            let syn::PathArguments::AngleBracketed(inner) = &segment.arguments else { panic!("{name}") };
            let Some(syn::GenericArgument::Type(inner)) = inner.args.first() else { panic!("{name}") };
            return declare(inner, name);
        }
        // Typedefs of functions, not of pointers to them.
        _ if FUNCTIONS.contains(&of.as_str()) => return format!("{} *{name}", type_name(&of)),
        _ if SIZES.iter().any(|(known, _)| *known == of) => type_name(&of),
        _ => panic!("{name} is a {of}"),
    };
    format!("{c} {name}")
}

fn declare_function(function: &TypeFnPtr, name: &str) -> String {
    let abi = function.abi.as_ref().and_then(|abi| abi.name.as_ref()).map(syn::LitStr::value);
    assert_eq!(abi.as_deref(), Some("C"), "{name}");
    let args: Vec<String> = function
        .inputs
        .iter()
        .map(|arg| declare(&arg.ty, &arg.name.as_ref().unwrap().0.to_string()))
        .collect();
    let args = if args.is_empty() { "void".to_owned() } else { args.join(", ") };
    let of_args = format!("{name}({args})");
    match &function.output {
        ReturnType::Default => format!("void {of_args}"),
        ReturnType::Type(_, ty) => declare(ty, &of_args),
    }
}

/// The documentation, with names as C has them, broken anew for their lengths.
fn comment(attrs: &[Attribute], indent: &str) -> String {
    let lines: Vec<String> = attrs.iter().filter_map(doc_line).collect();
    assert!(!lines.is_empty(), "something without documentation");
    let text = in_c(lines.join(" ").trim());
    format!(
        "{} */\n",
        broken(&text.split_whitespace().collect::<Vec<_>>(), &format!("{indent}/* "), " * ", indent)
    )
}

fn doc_line(attr: &Attribute) -> Option<String> {
    let Meta::NameValue(pair) = &attr.meta else { return None };
    let Expr::Lit(lit) = &pair.value else { return None };
    match (&lit.lit, pair.path.is_ident("doc")) {
        (Lit::Str(text), true) => Some(text.value()),
        _ => None,
    }
}

/// Words on lines that fit, the first behind `first`, the others behind `indent` and `next`.
fn broken(words: &[&str], first: &str, next: &str, indent: &str) -> String {
    let mut lines = vec![format!("{first}{}", words[0])];
    for word in &words[1..] {
        let line = lines.last_mut().unwrap();
        // Three more for the end of a comment.
        if line.chars().count() + 1 + word.chars().count() + 3 <= LINE_CHARS {
            *line += &format!(" {word}");
        } else {
            lines.push(format!("{indent}{next}{word}"));
        }
    }
    lines.join("\n")
}

/// Links lose their brackets, paths become C's names.
fn in_c(text: &str) -> String {
    let text = text.replace("[`crate::state`]", "reprise_state.h").replace("u64::MAX", "UINT64_MAX");
    let mut out = String::new();
    for (index, part) in text.replace("[`", "`").replace("`]", "`").split('`').enumerate() {
        // Every other part stands between backticks.
        out += &if index % 2 == 0 { part.to_owned() } else { format!("`{}`", code_in_c(part)) };
    }
    out.replace("`*const RepriseDevVtbl`", "`const RepriseDevVtbl *`")
}

fn code_in_c(code: &str) -> String {
    let without_paths = ["crate::", "hot::", "root::", "c::"]
        .iter()
        .fold(code.to_owned(), |code, module| code.replace(module, ""));
    let mut out = String::new();
    for word in without_paths.replace("::", ".").split_inclusive(|c: char| !(c.is_alphanumeric() || c == '_'))
    {
        let name = word.trim_end_matches(|c: char| !(c.is_alphanumeric() || c == '_'));
        out += &word.replacen(name, &name_in_c(name), usize::from(!name.is_empty()));
    }
    out
}

fn name_in_c(name: &str) -> String {
    let is_type = FUNCTIONS.contains(&name) || SIZES.iter().any(|(known, _)| *known == name);
    let is_constant = name.contains('_')
        && name.starts_with(|c: char| c.is_ascii_uppercase())
        && !name.contains(char::is_lowercase);
    match (is_type, is_constant && !name.ends_with("T64_MAX")) {
        (true, _) => type_name(name),
        (_, true) => format!("REPRISE_{name}"),
        (false, false) => name.to_owned(),
    }
}
