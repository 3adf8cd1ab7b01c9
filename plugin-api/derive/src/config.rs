//! `#[derive(DeviceConfig)]`.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{
    Attribute, Data, DeriveInput, Error, Expr, ExprArray, ExprLit, Field, Fields, Lit, LitStr, Meta, Result,
    Type,
};

pub(crate) fn expand(input: &DeriveInput) -> Result<TokenStream> {
    let fields = match &input.data {
        Data::Struct(data) if !matches!(data.fields, Fields::Unnamed(_)) => &data.fields,
        _ => return Err(Error::new_spanned(&input.ident, "options are a struct with named fields")),
    };
    let options = fields.iter().map(Opt::of).collect::<Result<Vec<_>>>()?;
    let ident = &input.ident;
    let names: Vec<_> = options.iter().map(|option| &option.name).collect();
    let idents: Vec<_> = options.iter().map(|option| &option.field.ident).collect();
    let types: Vec<_> = options.iter().map(|option| &option.field.ty).collect();
    let rules: Vec<_> = options.iter().map(Opt::rule).collect();
    let defaults: Vec<_> = options.iter().map(Opt::default_value).collect();
    let placeholders = options.iter().map(Opt::placeholder);
    Ok(quote! {
        const _: () = {
            use ::reprise_plugin_api::config as __config;

            #[automatically_derived]
            impl ::core::default::Default for #ident {
                fn default() -> Self {
                    Self { #(#idents: #placeholders,)* }
                }
            }

            #[automatically_derived]
            impl __config::DeviceConfig for #ident {
                fn schema() -> ::reprise_plugin_api::private::serde_json::Value {
                    __config::schema([#({
                        let default: ::core::option::Option<#types> = #defaults;
                        __config::Property::new::<#types>(#rules, default.as_ref())
                    },)*])
                }

                fn from_json(
                    __options: &::reprise_plugin_api::private::serde_json::Value,
                ) -> ::core::result::Result<Self, __config::ConfigError> {
                    let __options = __config::Options::new(__options, &[#(#names),*])?;
                    ::core::result::Result::Ok(Self {
                        #(#idents: __options.take::<#types>(#rules, #defaults)?,)*
                    })
                }

                fn to_json(&self) -> ::reprise_plugin_api::private::serde_json::Value {
                    let Self { #(#idents),* } = self;
                    let __pairs: [(&str, ::reprise_plugin_api::private::serde_json::Value); _] =
                        [#((#names, <#types as __config::ConfigValue>::to_json(#idents)),)*];
                    __pairs.into_iter().collect()
                }
            }
        };
    })
}

struct Opt<'a> {
    field: &'a Field,
    name: String,
    doc: String,
    default: Option<Expr>,
    board: Option<LitStr>,
    min: Option<Expr>,
    max: Option<Expr>,
    one_of: Vec<LitStr>,
}

impl<'a> Opt<'a> {
    fn of(field: &'a Field) -> Result<Self> {
        let ident = field.ident.as_ref().expect("only named fields arrive here");
        let name = ident.to_string().trim_start_matches("r#").to_owned();
        let doc = doc(&field.attrs);
        let mut out =
            Self { field, name, doc, default: None, board: None, min: None, max: None, one_of: Vec::new() };
        for attr in field.attrs.iter().filter(|attr| attr.path().is_ident("config")) {
            attr.parse_nested_meta(|meta| {
                if meta.path.is_ident("default") {
                    out.default = Some(meta.value()?.parse()?);
                } else if meta.path.is_ident("board") {
                    out.board = Some(meta.value()?.parse()?);
                } else if meta.path.is_ident("min") {
                    out.min = Some(meta.value()?.parse()?);
                } else if meta.path.is_ident("max") {
                    out.max = Some(meta.value()?.parse()?);
                } else if meta.path.is_ident("one_of") {
                    out.one_of = strings(&meta.value()?.parse()?)?;
                } else {
                    return Err(meta.error("expected `default`, `board`, `min`, `max` or `one_of`"));
                }
                Ok(())
            })?;
        }
        Ok(out)
    }

    fn rule(&self) -> TokenStream {
        let Self { name, doc, one_of, .. } = self;
        let optional = |value: Option<TokenStream>| match value {
            Some(value) => quote!(::core::option::Option::Some(#value)),
            None => quote!(::core::option::Option::None),
        };
        let board = optional(self.board.as_ref().map(|board| quote!(#board)));
        let min = optional(self.min.as_ref().map(|min| quote!((#min) as i128)));
        let max = optional(self.max.as_ref().map(|max| quote!((#max) as i128)));
        quote! {
            __config::Rule { name: #name, doc: #doc, board: #board, min: #min, max: #max, one_of: &[#(#one_of),*] }
        }
    }

    fn default_value(&self) -> TokenStream {
        let ty = &self.field.ty;
        match &self.default {
            Some(expr) => {
                let value = converted(expr, ty);
                quote!(::core::option::Option::Some(#value))
            }
            None => quote!(::core::option::Option::None),
        }
    }

    fn placeholder(&self) -> TokenStream {
        let ty = &self.field.ty;
        match &self.default {
            Some(expr) => converted(expr, ty),
            None => quote!(<#ty as __config::ConfigValue>::placeholder()),
        }
    }
}

/// A default: text for a `String`, a list for a `Vec`, or an expression of the field's own type.
fn converted(expr: &Expr, ty: &Type) -> TokenStream {
    match expr {
        Expr::Lit(ExprLit { lit: Lit::Str(_), .. }) => quote!(<#ty>::from(#expr)),
        Expr::Array(array) => {
            let items = array.elems.iter().map(|item| match item {
                Expr::Lit(ExprLit { lit: Lit::Str(_), .. }) => quote!(#item.into()),
                other => quote!(#other),
            });
            quote!(::std::vec![#(#items),*])
        }
        other => quote!(#other),
    }
}

fn strings(array: &ExprArray) -> Result<Vec<LitStr>> {
    let text = |item: &Expr| match item {
        Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => Ok(text.clone()),
        other => Err(Error::new_spanned(other, "expected a string")),
    };
    array.elems.iter().map(text).collect()
}

/// The first paragraph of the documentation, on one line.
fn doc(attrs: &[Attribute]) -> String {
    let lines = attrs.iter().filter(|attr| attr.path().is_ident("doc")).filter_map(|attr| match &attr.meta {
        Meta::NameValue(pair) => match &pair.value {
            Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => Some(text.value().trim().to_owned()),
            _ => None,
        },
        _ => None,
    });
    lines.skip_while(String::is_empty).take_while(|line| !line.is_empty()).collect::<Vec<_>>().join(" ")
}
