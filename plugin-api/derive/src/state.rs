//! `#[derive(DeviceState)]`.

use proc_macro2::TokenStream;
use quote::{format_ident, quote};
use syn::{Data, DataEnum, DeriveInput, Error, Expr, Field, Fields, Ident, LitInt, LitStr, Path, Result};

pub(crate) fn expand(input: &DeriveInput) -> Result<TokenStream> {
    match &input.data {
        Data::Struct(data) => match &data.fields {
            Fields::Named(_) | Fields::Unit => expand_struct(input, &data.fields),
            Fields::Unnamed(_) => {
                Err(Error::new_spanned(&data.fields, "name the fields: they are saved by name"))
            }
        },
        Data::Enum(data) => expand_enum(input, data),
        Data::Union(_) => Err(Error::new_spanned(&input.ident, "a union cannot be saved")),
    }
}

/// What becomes of one field.
enum Plan {
    Saved,
    Since(LitInt, Expr),
    Config,
    Rebuilt(Path),
}

fn plan(field: &Field) -> Result<Plan> {
    let (mut config, mut skip, mut rebuild, mut since, mut default) = (None, None, None, None, None);
    for attr in field.attrs.iter().filter(|attr| attr.path().is_ident("state")) {
        attr.parse_nested_meta(|meta| {
            let path = meta.path.clone();
            if path.is_ident("config") {
                config = Some(path);
            } else if path.is_ident("skip") {
                skip = Some(path);
            } else if path.is_ident("rebuild") {
                rebuild = Some(meta.value()?.parse::<LitStr>()?.parse::<Path>()?);
            } else if path.is_ident("since") {
                since = Some(meta.value()?.parse::<LitInt>()?);
            } else if path.is_ident("default") {
                default = Some(meta.value()?.parse::<LitStr>()?.parse::<Expr>()?);
            } else {
                return Err(meta.error("expected `config`, `skip`, `rebuild`, `since` or `default`"));
            }
            Ok(())
        })?;
    }
    match (config, skip, rebuild, since, default) {
        (None, None, None, None, None) => Ok(Plan::Saved),
        (Some(_), None, None, None, None) => Ok(Plan::Config),
        (None, Some(_), Some(rebuild), None, None) => Ok(Plan::Rebuilt(rebuild)),
        (None, None, None, Some(since), Some(default)) => Ok(Plan::Since(since, default)),
        (None, Some(skip), None, None, None) => Err(Error::new_spanned(
            skip,
            "say how it comes back after loading: `skip, rebuild = \"Self::function\"`",
        )),
        (None, None, None, Some(since), None) => Err(Error::new_spanned(
            since,
            "say what it is in older records: `since = N, default = \"expression\"`",
        )),
        _ => Err(Error::new_spanned(field, "use one of `config`; `skip, rebuild`; `since, default`")),
    }
}

fn version(input: &DeriveInput) -> Result<u32> {
    let mut version = 1;
    for attr in input.attrs.iter().filter(|attr| attr.path().is_ident("state")) {
        attr.parse_nested_meta(|meta| {
            if !meta.path.is_ident("version") {
                return Err(meta.error("expected `version`"));
            }
            version = meta.value()?.parse::<LitInt>()?.base10_parse()?;
            Ok(())
        })?;
    }
    Ok(version)
}

/// The code for one saved field.
struct Saved {
    name: String,
    schema: TokenStream,
    put: TokenStream,
    take: TokenStream,
}

fn saved(field: &Field, ident: &Ident, local: &Ident, plan: &Plan, version: u32) -> Result<Option<Saved>> {
    let name = ident.to_string().trim_start_matches("r#").to_owned();
    let put = quote!(__StateField::put(#local, __out.field(#name)););
    let take = quote!(__StateField::take(#local, __record.field(#name)?).map_err(|e| e.in_field(#name))?;);
    let ty = &field.ty;
    let schema = quote! {
        ::reprise_plugin_api::state::FieldSchema::new(#name, <#ty as __StateField>::state_type(__room))
    };
    Ok(match plan {
        Plan::Saved => Some(Saved { name, schema, put, take }),
        Plan::Since(since, default) => {
            if since.base10_parse::<u32>()? > version {
                let message =
                    format!("the state's version is only {version}: raise it in `#[state(version = …)]`");
                return Err(Error::new_spanned(since, message));
            }
            let take = quote! {
                if __record.version() < #since { *#local = #default; } else { #take }
            };
            let text = source_text(default);
            let schema = quote!(#schema.since(#since, #text));
            Some(Saved { name, schema, put, take })
        }
        Plan::Config | Plan::Rebuilt(_) => None,
    })
}

/// An expression as somebody would write it, nearly: tokens lose the spaces between them.
fn source_text(expr: &Expr) -> String {
    let text = quote!(#expr).to_string();
    [(" :: ", "::"), (" ( ", "("), (" (", "("), (" )", ")"), (" . ", "."), (" , ", ", "), ("& ", "&")]
        .iter()
        .fold(text, |text, (from, to)| text.replace(from, to))
}

fn expand_struct(input: &DeriveInput, fields: &Fields) -> Result<TokenStream> {
    let version = version(input)?;
    let parts = Parts::of(fields, version)?;
    Ok(parts.implement(input, version))
}

/// What the fields of a struct contribute to its `DeviceState`.
#[derive(Default)]
struct Parts {
    patterns: Vec<TokenStream>,
    names: Vec<String>,
    schemas: Vec<TokenStream>,
    puts: Vec<TokenStream>,
    takes: Vec<TokenStream>,
    /// Functions that rebuild, each once, in order of the fields.
    rebuilds: Vec<Path>,
}

impl Parts {
    fn of(fields: &Fields, version: u32) -> Result<Self> {
        let mut parts = Self::default();
        for field in fields {
            let ident = field.ident.as_ref().expect("only named fields arrive here");
            let local = format_ident!("__field_{}", ident.to_string().trim_start_matches("r#"));
            let plan = plan(field)?;
            match saved(field, ident, &local, &plan, version)? {
                Some(Saved { name, schema, put, take }) => {
                    parts.patterns.push(quote!(#ident: #local));
                    parts.names.push(name);
                    parts.schemas.push(schema);
                    parts.puts.push(put);
                    parts.takes.push(take);
                }
                None => parts.patterns.push(quote!(#ident: _)),
            }
            if let Plan::Rebuilt(path) = plan {
                let same = |other: &Path| quote!(#other).to_string() == quote!(#path).to_string();
                if !parts.rebuilds.iter().any(same) {
                    parts.rebuilds.push(path);
                }
            }
        }
        Ok(parts)
    }

    fn implement(&self, input: &DeriveInput, version: u32) -> TokenStream {
        let Self { patterns, names, schemas, puts, takes, rebuilds } = self;
        let ident = &input.ident;
        let (impl_generics, ty_generics, where_clause) = input.generics.split_for_impl();
        // No `..` in the patterns: every field has been decided upon.
        quote! {
            const _: () = {
                use ::reprise_plugin_api::state::{DeviceState as __DeviceState, StateField as __StateField};

                #[automatically_derived]
                impl #impl_generics __DeviceState for #ident #ty_generics #where_clause {
                    const VERSION: u32 = #version;

                    fn schema() -> ::core::option::Option<::reprise_plugin_api::state::StateSchema> {
                        let __whole = <Self as __StateField>::state_type(::reprise_plugin_api::state::MAX_TYPE_DEPTH);
                        ::core::option::Option::Some(::reprise_plugin_api::state::StateSchema {
                            fields: __whole.fields,
                        })
                    }

                    fn save(&self, __out: &mut ::reprise_plugin_api::state::Writer<'_>) {
                        let Self { #(#patterns),* } = self;
                        let _ = &__out;
                        #(#puts)*
                    }

                    fn load(
                        &mut self,
                        __record: &::reprise_plugin_api::state::Reader<'_>,
                    ) -> ::core::result::Result<(), ::reprise_plugin_api::state::StateError> {
                        {
                            let Self { #(#patterns),* } = self;
                            #(#takes)*
                        }
                        __record.only(&[#(#names),*])?;
                        #(#rebuilds(self);)*
                        ::core::result::Result::Ok(())
                    }
                }

                #[automatically_derived]
                impl #impl_generics __StateField for #ident #ty_generics #where_clause {
                    fn state_type(__room: u8) -> ::reprise_plugin_api::state::StateType {
                        ::reprise_plugin_api::state::StateType::record(__room, |__room| {
                            let _ = __room;
                            ::std::vec![#(#schemas),*]
                        })
                    }

                    fn put(&self, out: ::reprise_plugin_api::state::ValueWriter<'_>) {
                        out.record(|out| __DeviceState::save(self, out));
                    }

                    fn take(
                        &mut self,
                        value: ::reprise_plugin_api::state::Value<'_>,
                    ) -> ::core::result::Result<(), ::reprise_plugin_api::state::StateError> {
                        __DeviceState::load(self, &value.record()?)
                    }
                }
            };
        }
    }
}

fn expand_enum(input: &DeriveInput, data: &DataEnum) -> Result<TokenStream> {
    if let Some(variant) = data.variants.iter().find(|variant| !matches!(variant.fields, Fields::Unit)) {
        return Err(Error::new_spanned(variant, "only variants without data can be saved"));
    }
    let ident = &input.ident;
    let variants: Vec<_> = data.variants.iter().map(|variant| &variant.ident).collect();
    let names: Vec<_> = variants.iter().map(ToString::to_string).collect();
    Ok(quote! {
        #[automatically_derived]
        impl ::reprise_plugin_api::state::StateField for #ident {
            fn state_type(_: u8) -> ::reprise_plugin_api::state::StateType {
                ::reprise_plugin_api::state::StateType::variants(&[#(#names),*])
            }

            fn put(&self, out: ::reprise_plugin_api::state::ValueWriter<'_>) {
                out.text(match self { #(Self::#variants => #names,)* });
            }

            fn take(
                &mut self,
                value: ::reprise_plugin_api::state::Value<'_>,
            ) -> ::core::result::Result<(), ::reprise_plugin_api::state::StateError> {
                *self = match value.text()? {
                    #(#names => Self::#variants,)*
                    other => {
                        let problem = ::reprise_plugin_api::state::Problem::Variant(other.into());
                        return ::core::result::Result::Err(problem.into());
                    }
                };
                ::core::result::Result::Ok(())
            }
        }
    })
}
