// The report's style sheet: calm, readable on paper, phone and screen, light or dark as the reader's system.
#ifndef DERMIS_TOOLS_REPORT_STYLE_H_
#define DERMIS_TOOLS_REPORT_STYLE_H_

namespace dermis {

// What plots need, in the page and in files of their own. Colours are the page's.
inline constexpr char kPlotStyle[] = R"css(
.plot text{fill:var(--soft);font-size:11px}
.plot .halo{paint-order:stroke;stroke:var(--card);stroke-width:4px;stroke-linejoin:round}.plot .legend{fill:var(--ink);font-size:11.5px}
.plot .grid{stroke:var(--line);stroke-width:1}.plot .axis{stroke:var(--soft);stroke-width:1}
.plot .line{fill:none;stroke-width:2;stroke-linejoin:round;stroke-linecap:round}.plot .a{stroke:var(--accent)}
.plot .b{stroke:var(--second)}.plot .guide{stroke:var(--soft);stroke-width:1;stroke-dasharray:3 4;opacity:.7}
.plot .mark{stroke:var(--soft);stroke-width:1;stroke-dasharray:2 3}.plot .dot{fill:var(--card);stroke:var(--accent);
stroke-width:2}
.m0{stroke:var(--accent)}.m1{stroke:var(--second)}.m2{stroke:#5b7fd1}.m3{stroke:#a3589e}.m4{stroke:#7d8c2a}.m5{stroke:#c2564b}
.forest .head{font-weight:600;fill:var(--ink);font-size:12px}.forest .name{fill:var(--ink);font-size:12px}.forest .strong{font-weight:650}
.forest .c{stroke:var(--soft)}.forest .estimate{fill:var(--soft)}.forest .estimate.strong{fill:var(--accent)}
.points{fill:none;stroke:var(--accent);stroke-width:3.4;stroke-linecap:round;opacity:.6}.points.few{stroke-width:6}.points.b{stroke:var(--second)}.points.faint{opacity:.16}
.plot .name,.plot .what{fill:var(--ink);font-size:12px}.plot .share{fill:var(--ink)}.plot .count{fill:var(--ink);font-size:24px;font-weight:640}
.cell.right{fill:var(--right)}.cell.wrong{fill:var(--wrong)}
.flow .box{fill:var(--card);stroke:var(--line)}
.flow .quiet{fill:none;stroke-dasharray:4 4}.flow .head{fill:var(--ink);font-size:13.5px;font-weight:620}.flow .line-text{font-size:12px}
.flow .arrow{fill:none;stroke:var(--soft);stroke-width:1.2;marker-end:url(#arrowhead)}.flow marker path{fill:var(--soft)}
)css";

inline constexpr char kReportStyle[] = R"css(
:root{color-scheme:light dark;--bg:#faf9f6;--card:#fff;--ink:#1f2328;--soft:#646a73;--line:#e4e2dc;--accent:#0d7a6f;
--second:#b9722c;--right:#0d7a6f;--wrong:#c0392b;--shade:0 1px 2px #0000000d,0 6px 20px #0000000a;--edge:#00000026}
@media screen and (prefers-color-scheme:dark){:root:not([data-theme=light]){--bg:#15171a;--card:#1d2024;--ink:#e6e7e9;--soft:#9aa1ab;
--line:#30343a;--accent:#4cc3b4;--second:#e0a868;--right:#4cc3b4;--wrong:#f0806f;--shade:none;--edge:#ffffff2e}}
@media screen{:root[data-theme=dark]{color-scheme:dark;--bg:#15171a;--card:#1d2024;--ink:#e6e7e9;--soft:#9aa1ab;--line:#30343a;
--accent:#4cc3b4;--second:#e0a868;--right:#4cc3b4;--wrong:#f0806f;--shade:none;--edge:#ffffff2e}:root[data-theme=light]{color-scheme:light}}
@media print{:root{color-scheme:light}}[hidden]{display:none!important}
*{box-sizing:border-box}html{scroll-behavior:smooth;scroll-padding-top:1rem}
body{margin:0;background:var(--bg);color:var(--ink);font:16px/1.6 Inter,"Segoe UI",system-ui,-apple-system,
"Helvetica Neue",Arial,sans-serif;font-feature-settings:"tnum";-webkit-font-smoothing:antialiased}
.top,main,footer{max-width:1180px;margin:0 auto;padding:0 1.5rem}.defs{position:absolute;width:0;height:0}
.top{padding-top:3.5rem}.brand{margin:0;color:var(--accent);font-weight:600;letter-spacing:.08em;
text-transform:uppercase;font-size:.78rem}h1{font-size:clamp(2rem,5vw,3rem);line-height:1.1;letter-spacing:-.025em;
margin:.35rem 0 .5rem;font-weight:680;overflow-wrap:anywhere}.lead{color:var(--soft);margin:0 0 1.2rem;font-size:1.06rem}
nav{display:flex;flex-wrap:wrap;gap:.1rem 1.3rem}nav a{color:var(--soft);text-decoration:none;font-size:.92rem;white-space:nowrap}nav a:hover{color:var(--accent)}
.top nav{border-top:1px solid var(--line);padding-top:.8rem}section{margin-top:3.6rem}
h2{font-size:1.5rem;letter-spacing:-.015em;margin:0 0 1.1rem;font-weight:650}
h3{font-size:1.05rem;margin:0;font-weight:620;overflow-wrap:anywhere}
.note{color:var(--soft);font-size:.86rem;max-width:46rem;margin:.9rem 0 0}
.missing{color:var(--soft);border-left:3px solid var(--second);padding:.2rem 0 .2rem .9rem;margin:1rem 0}
.tile{background:var(--card);border:1px solid var(--line);border-radius:14px;padding:1.1rem 1.25rem;
box-shadow:var(--shade)}.tile b{display:block;font-size:2.15rem;line-height:1.15;letter-spacing:-.03em;font-weight:640}
.tile span{display:block;font-size:.92rem}.tile small{color:var(--soft);font-size:.8rem}
.scroll{--under:var(--bg);overflow-x:auto;background:linear-gradient(90deg,var(--under) 40%,transparent) 0/2.2rem 100%,
linear-gradient(270deg,var(--under) 40%,transparent) 100%/2.2rem 100%,linear-gradient(90deg,var(--edge),transparent) 0/.7rem 100%,
linear-gradient(270deg,var(--edge),transparent) 100%/.7rem 100%;background-repeat:no-repeat;background-attachment:local,local,scroll,scroll}
.case .scroll,.tile .scroll,.panel .scroll{--under:var(--card)}@media print{.scroll{background:none}}
table{border-collapse:collapse;width:100%;font-size:.9rem}
th,td{padding:.5rem .65rem;text-align:right;border-bottom:1px solid var(--line);white-space:nowrap}
thead th{color:var(--soft);font-weight:500;font-size:.8rem;vertical-align:bottom;white-space:normal}
thead th[colspan]{text-align:center}thead tr:first-child th:first-child,tbody th{text-align:left;font-weight:500}
.ours td,.ours th{font-weight:650;color:var(--accent);background:color-mix(in srgb,var(--accent) 7%,transparent)}
td.none{color:var(--soft);opacity:.55}
.trio,.duo{display:grid;gap:1rem;margin-top:1.4rem;grid-template-columns:repeat(auto-fit,minmax(min(100%,320px),1fr));
align-items:stretch}.plot,.panel{background:var(--card);border:1px solid var(--line);border-radius:14px;
box-shadow:var(--shade)}.plot{padding:1rem 1.1rem;width:100%;height:auto;display:block}
.panel{padding:.85rem 1rem}.panel p{margin:0 0 .3rem;color:var(--soft);font-size:.8rem}
.index{display:flex;flex-wrap:wrap;gap:.4rem;margin:0 0 1.4rem}.index a{border:1px solid var(--line);
background:var(--card);border-radius:99px;padding:.1rem .75rem;margin:0;font-size:.8rem;max-width:16rem;overflow:hidden;
text-overflow:ellipsis;white-space:nowrap}
.case{background:var(--card);border:1px solid var(--line);border-radius:16px;padding:1.4rem 1.5rem 1.2rem;
margin:0 0 1.6rem;box-shadow:var(--shade)}
.case header{display:flex;flex-wrap:wrap;gap:.5rem .7rem;align-items:center;margin-bottom:.6rem}
.chip{font-size:.78rem;border-radius:99px;padding:.1rem .7rem;border:1px solid var(--line);color:var(--soft)}
.chip.right{color:var(--right);border-color:currentColor}.chip.wrong{color:var(--wrong);border-color:currentColor}
.why{color:var(--soft);font-size:.85rem;margin-left:auto}
.facts{display:flex;flex-wrap:wrap;gap:.2rem 2rem;margin:0 0 1rem;font-size:.88rem}.facts div{display:flex;gap:.5rem}
dt{color:var(--soft)}dd{margin:0;font-weight:600}
.figures{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,195px),1fr));grid-auto-flow:dense;gap:1rem 1.1rem}
figure{margin:0;min-width:0}figcaption{font-size:.79rem;line-height:1.45;color:var(--soft);margin-top:.45rem}
figcaption b{color:var(--ink);font-weight:600}figcaption em{font-style:normal;color:var(--ink)}
.picture{display:block;width:100%;height:auto;border-radius:8px;isolation:isolate;background:#fff}
.lighten{mix-blend-mode:lighten;image-rendering:pixelated}.outline{fill:none;stroke:#ffe14d;stroke-width:1.6;stroke-linecap:square}
.halo{fill:none;stroke:#000;stroke-opacity:.55;stroke-width:3.4;stroke-linecap:square}
.mask{fill:none;stroke:#fff;stroke-width:1;stroke-opacity:.9;stroke-dasharray:3 2}
.picture .none{fill:#1f2328;font-size:15px;text-anchor:middle;font-weight:600}
.augmented{margin-top:1rem}.augmented div{display:grid;grid-template-columns:minmax(0,9rem) repeat(var(--columns),minmax(0,1fr));
gap:.6rem;align-items:center}.augmented b{font-weight:500;font-size:.8rem;color:var(--soft);text-align:center}
.augmented p{margin:0;overflow-wrap:anywhere;line-height:1.4}.augmented small{display:block;font-size:.75rem}
.augmented figcaption{margin-top:.8rem}.sample{width:100%;display:block;border-radius:6px;image-rendering:pixelated}
.key{white-space:nowrap}.for,.against{display:inline-block;width:.7em;height:.7em;border-radius:2px;background:#1fae4b;margin:0 .3em 0 .1em}
.against{background:#e5352b}.scale{display:grid;grid-template-columns:1fr auto;gap:.1rem .5rem;font-size:.74rem;margin-top:.3rem}
.scale i{grid-column:1/-1;order:-1;height:.5rem;border-radius:99px;background:linear-gradient(90deg,#008bfb,#fff 50%,#ff0051);
border:1px solid var(--line)}
.numbers{margin-top:1.1rem;font-size:.84rem}
.numbers .note{display:block;min-width:15rem;max-width:34em;margin-top:.15rem;font-weight:400;opacity:.75;white-space:normal}
.cams{grid-template-columns:repeat(auto-fill,minmax(min(100%,300px),1fr))}.pair{display:grid;grid-template-columns:1fr 34%;gap:6px;
align-items:end}.native{width:100%;image-rendering:pixelated;border-radius:6px;display:block}
.grid{image-rendering:pixelated}
.maps{grid-template-columns:repeat(auto-fill,minmax(min(100%,330px),1fr))}.maps img{width:100%;height:auto;image-rendering:pixelated;
display:block;border-radius:4px}
.checks td{vertical-align:top}.checks small{display:block;color:var(--soft);font-size:.72rem;line-height:1.2}
.checks td b{color:var(--accent);font-weight:650}.prior th,.prior td{color:var(--soft)}#checks h3{margin:2.2rem 0 0}
#checks .note{margin:.4rem 0 .9rem}.flags,.praise{background:var(--card);border:1px solid var(--line);border-radius:14px;
box-shadow:var(--shade);font-size:.92rem;margin:0}.flags{border-left:3px solid var(--wrong);padding:.9rem 1.2rem .9rem 2.1rem}
.flags li+li{margin-top:.4rem}.praise{border-left:3px solid var(--right);padding:.8rem 1.2rem}
.keys{list-style:none;display:flex;flex-wrap:wrap;gap:.25rem 1.2rem;margin:1.3rem 0 -.6rem;padding:0;font-size:.82rem}
.keys svg{width:22px;height:8px;margin-right:.45rem;vertical-align:middle}.line{fill:none;stroke-width:2}
.p0,.p1,.p2{stroke:var(--soft);stroke-width:1.4}.p0{stroke-dasharray:1 4}.p1{stroke-dasharray:6 4}.p2{stroke-dasharray:9 3 2 3}
.flags.first{margin-top:1.4rem;list-style:none;padding-left:1.2rem}#lesions h3{margin:2.4rem 0 .8rem}#lesions h3:first-of-type{margin-top:0}
.verdict{background:var(--card);border:1px solid var(--line);border-left:3px solid var(--second);border-radius:14px;padding:.8rem 1.2rem;
font-size:.92rem;margin:0;box-shadow:var(--shade)}.lesion{display:grid;grid-template-columns:minmax(0,14rem) 1fr;gap:1.6rem;align-items:center;margin:1.2rem 0}
.zones{width:100%;display:block;border-radius:8px}.swatch{display:inline-block;width:.7em;height:.7em;border-radius:2px;margin-right:.5em}
.trio+.scroll,.note+.scroll,.scroll+.provenance{margin-top:1.3rem}.verdict+.plot,.verdict+.scroll{margin-top:1rem}.forest{max-width:900px}
@media(max-width:640px){.lesion{grid-template-columns:minmax(0,1fr)}}.lesion>*{min-width:0;overflow-x:auto}.scroll .forest{min-width:600px}
.judged h3{margin:2.6rem 0 .8rem}.judged h3:first-child{margin-top:0}.judged h3 span{color:var(--soft);font-weight:400;font-size:.86rem;margin-left:.4rem}
.judged .verdict,.judged .flags,.judged .praise{margin:0 0 1rem;max-width:52rem}.judged .list{padding-left:2.1rem}.judged tbody th small{display:block}
.judged .duo{margin:0 0 1rem}.judged .scroll+.scroll{margin-top:1rem}.judged .forest{min-width:680px}.judged .wide{font-size:.84rem}.judged .wide th,.judged .wide td{padding:.5rem .22rem}
.judged .wide small{font-size:.64rem;letter-spacing:-.01em}.judged details.model{margin-top:2rem}
.curves{grid-template-columns:repeat(auto-fit,minmax(min(100%,350px),1fr))}
.agreement td{text-align:center}.agreement .more{background:color-mix(in srgb,var(--accent) calc(var(--share)*60%),transparent)}
.agreement .less{background:color-mix(in srgb,var(--wrong) calc(var(--share)*60%),transparent)}
details{margin-top:1.1rem;border-top:1px solid var(--line);padding-top:.7rem}summary{cursor:pointer;font-weight:600;
font-size:.92rem;margin-bottom:.7rem}summary span{color:var(--soft);font-weight:400;font-size:.82rem;margin-left:.4rem}
.provenance{display:grid;gap:.15rem;margin:0;font-size:.9rem}.provenance div{display:grid;
grid-template-columns:11rem 1fr;gap:1rem;padding:.35rem 0;border-bottom:1px solid var(--line)}
.provenance dd{font-weight:400;overflow-wrap:anywhere}code,pre{font:.85em/1.6 ui-monospace,"SF Mono",Menlo,Consolas,
"DejaVu Sans Mono",monospace}pre{background:var(--card);border:1px solid var(--line);border-radius:12px;padding:1rem 1.2rem;
overflow-x:auto;margin:0}footer{color:var(--soft);font-size:.82rem;padding-top:3rem;padding-bottom:3rem}
@media(max-width:640px){.augmented div{grid-template-columns:repeat(var(--columns),minmax(0,1fr));gap:.3rem}.augmented p{grid-column:1/-1;margin-top:.4rem}
.augmented p:first-child{display:none}.augmented b{font-size:.7rem}.provenance div{grid-template-columns:1fr;gap:0}.why{margin-left:0}.case{padding:1.1rem}}
.pixels{image-rendering:pixelated;max-width:320px}section>h3{margin:2rem 0 .4rem}
.scatter .canvas{position:relative;padding:1rem 1.1rem;background:var(--card);border:1px solid var(--line);border-radius:14px;box-shadow:var(--shade);break-inside:avoid}
.scatter .plot{padding:0;border:0;box-shadow:none;background:none;touch-action:pan-y}.scatter canvas{position:absolute;inset:1rem 1.1rem;width:calc(100% - 2.2rem);height:calc(100% - 2rem);pointer-events:none}
.scatter button{font:inherit;color:var(--soft);background:none;border:1px solid var(--line);border-radius:99px;padding:0 .6rem;cursor:pointer}
.hover{position:absolute;z-index:9;background:var(--card);border:1px solid var(--line);border-radius:10px;padding:6px;width:154px;
box-shadow:var(--shade);pointer-events:none;font-size:.74rem;line-height:1.3}.hover canvas{display:block;border-radius:6px}
.top{position:relative}.theme{position:absolute;right:1.5rem;top:3.2rem;font:inherit;font-size:.82rem;color:var(--soft);background:var(--card);
border:1px solid var(--line);border-radius:99px;padding:.15rem .9rem;cursor:pointer}.theme:hover{color:var(--accent)}
.first{margin-top:1.8rem;max-width:none}.first p{max-width:52rem;margin:.4rem 0 0}.first .tiles+p{margin-top:.9rem}.answer{font-size:clamp(1.2rem,2.6vw,1.6rem);line-height:1.4;letter-spacing:-.012em}
.first .answer b{color:var(--accent);font-weight:680}.first>.tiles,main>.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:1rem;margin-top:1.4rem}
.caveats{margin-top:1.6rem;background:var(--card);border:1px solid var(--line);border-left:3px solid var(--second);border-radius:14px;
padding:1rem 1.3rem;box-shadow:var(--shade);font-size:.92rem}.caveats h2{font-size:1rem;margin:0 0 .4rem;letter-spacing:0}
.caveats ul{margin:0;padding-left:1.1rem;columns:2 24rem;column-gap:2.2rem}.caveats li{break-inside:avoid;margin:0 0 .4rem}.caveats a{color:var(--accent)}
.flow{min-width:640px;max-width:860px;box-shadow:none;border:0;background:none;padding:0}#panels h3 span{color:var(--soft);font-weight:400;font-size:.86rem;margin-left:.4rem}#panels h3:first-of-type{margin-top:0}#panels .figures{margin-top:.9rem;grid-template-columns:repeat(auto-fill,minmax(150px,1fr))}#panels .figures.one{grid-template-columns:minmax(0,38rem)}
.words{white-space:normal;text-align:left}
.filters{display:flex;flex-wrap:wrap;gap:.5rem 1.2rem;align-items:center;margin:0 0 1rem;padding:.7rem 1rem;background:var(--card);
border:1px solid var(--line);border-radius:14px;font-size:.85rem;color:var(--soft)}.filters label{display:flex;gap:.5rem;align-items:center}
.filters select{font:inherit;color:var(--ink);background:var(--bg);border:1px solid var(--line);border-radius:8px;padding:.15rem .4rem;max-width:15rem}
@media screen and (min-width:820px) and (min-height:600px){.filters{position:sticky;top:.5rem;z-index:8}.case{scroll-margin-top:4.5rem}}
.filters input{accent-color:var(--accent)}.filters output{margin-left:auto}.of-method{display:contents}
.of-model{border-top:1px solid var(--line);margin-top:1.2rem;padding-top:.9rem}.of-model h4{margin:0 0 .8rem;font-size:.98rem}.of-model h4 span{color:var(--soft);font-weight:400;font-size:.86rem;margin-left:.4rem}
.waterfall{width:100%;height:auto;display:block}.waterfall text{fill:var(--ink);font-size:12px}.waterfall .value{text-anchor:end}.waterfall .up{fill:#e0245e}
.waterfall .down{fill:#2b8ce6}.waterfall .link{stroke:var(--soft);stroke-width:1;stroke-dasharray:2 2}.waterfall .end{stroke:var(--ink);stroke-width:2}
.number{fill:#111;stroke:#fff;stroke-width:2.5px;paint-order:stroke;font-weight:700;text-anchor:middle;dominant-baseline:central}
.figures .wide{grid-column:span 2}@media(max-width:640px){.case .figures:not(.cams,.maps){grid-template-columns:1fr 1fr;gap:.8rem}}
.without-overlay .case .overlay,.without-mask .case .mask{visibility:hidden}
:focus-visible{outline:2px solid var(--accent);outline-offset:2px}
@media(max-width:640px){.theme{top:1.2rem}.top{padding-top:2.6rem}.tiles{grid-template-columns:1fr 1fr!important}.filters output{margin-left:0}}
@page{margin:14mm}
@media print{body{background:#fff;font-size:11pt}.top,main,footer{max-width:none;padding-left:0;padding-right:0}.plot,.tile,.panel,figure,tr,.verdict,.flags,.praise,.caveats{break-inside:avoid;box-shadow:none}
.case{box-shadow:none;border:0;border-top:1px solid var(--line);border-radius:0;padding:1rem 0 0}h2,h3,h4,summary,.case header,tr:has(>[scope=rowgroup]){break-after:avoid}
summary{list-style:none}.index,nav,.theme,.filters,.scatter button{display:none}.scroll{overflow:visible}th,td{padding:.35rem .4rem}table{font-size:.78rem}.numbers{break-inside:avoid}
.judged .wide th,.judged .wide td{padding:.35rem .14rem}.judged .wide{font-size:.7rem}.judged .wide small{font-size:.52rem}
.figures{grid-template-columns:repeat(5,1fr);gap:.7rem .6rem}figcaption{font-size:.68rem}.cams,.maps{grid-template-columns:repeat(3,1fr)}
#panels .figures:not(.one){grid-template-columns:repeat(6,1fr)}
.trio{grid-template-columns:repeat(3,1fr);gap:.6rem}.duo{grid-template-columns:1fr 1fr}.first>.tiles{grid-template-columns:repeat(4,1fr)}*{-webkit-print-color-adjust:exact;print-color-adjust:exact}}
)css";

}  // namespace dermis

#endif  // DERMIS_TOOLS_REPORT_STYLE_H_
