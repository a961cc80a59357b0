#include "worker/device/dnnl_version.h"

#include <omp.h>

#include <cstdint>
#include <unordered_map>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/philox.h"
#include "oneapi/dnnl/dnnl.hpp"

namespace dermis {
namespace {

std::vector<float> Data(uint64_t index, size_t n) {
  std::vector<float> out(n);
  for (size_t i = 0; i < n; ++i) {
    const auto block = PhiloxBlock(0, Purpose::kTest, index, 1, static_cast<uint32_t>(i / 4));
    out[i] = 2 * ToUnitFloat(block[i % 4]) - 1;
  }
  return out;
}

void Convolution(Sha256& hash, const dnnl::engine& engine, dnnl::memory::data_type type) {
  using dnnl::memory;
  dnnl::stream stream(engine);
  const memory::dims source_dims = {8, 32, 16, 16}, weight_dims = {32, 32, 3, 3}, bias_dims = {32};
  const auto any = memory::format_tag::any;
  dnnl::post_ops post;
  post.append_eltwise(1.0f, dnnl::algorithm::eltwise_elu, 1.0f, 0.0f);
  dnnl::primitive_attr attributes;
  attributes.set_post_ops(post);
  const dnnl::convolution_forward::primitive_desc descriptor(
      {dnnl::prop_kind::forward_inference, dnnl::algorithm::convolution_direct,
       {source_dims, type, memory::format_tag::nhwc}, {weight_dims, type, any},
       {bias_dims, memory::data_type::f32, any}, {source_dims, type, memory::format_tag::nhwc},
       {1, 1}, {1, 1}, {1, 1}},
      attributes, engine);
  const auto load = [&](uint64_t index, const memory::dims& dims, memory::format_tag tag,
                        const memory::desc& wanted) {
    int64_t n = 1;
    for (const int64_t d : dims) n *= d;
    std::vector<float> data = Data(index, n);
    memory plain({dims, memory::data_type::f32, tag}, engine, data.data());
    memory out(wanted, engine);
    dnnl::reorder(plain, out).execute(stream, plain, out);
    stream.wait();
    return out;
  };
  memory source = load(11, source_dims, memory::format_tag::nhwc, descriptor.src_desc());
  memory weights = load(12, weight_dims, memory::format_tag::oihw, descriptor.weights_desc());
  memory bias = load(13, bias_dims, memory::format_tag::x, descriptor.bias_desc());
  memory out(descriptor.dst_desc(), engine);
  dnnl::convolution_forward(descriptor).execute(
      stream, {{DNNL_ARG_SRC, source}, {DNNL_ARG_WEIGHTS, weights}, {DNNL_ARG_BIAS, bias},
               {DNNL_ARG_DST, out}});
  std::vector<float> result(8 * 32 * 16 * 16);
  memory plain({source_dims, memory::data_type::f32, memory::format_tag::nhwc}, engine, result.data());
  dnnl::reorder(out, plain).execute(stream, out, plain);
  stream.wait();
  hash.Update(result.data(), result.size() * sizeof(float));
}

}  // namespace

std::string DnnlVersion() {
  const dnnl_version_t* v = dnnl_version();
  return absl::StrCat(v->major, ".", v->minor, ".", v->patch);
}

void UseOneOpenMpThread() { omp_set_num_threads(1); }

void HashFusedConvolution(Sha256& hash) {
  const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  Convolution(hash, engine, dnnl::memory::data_type::f32);
  const auto isa = dnnl::get_effective_cpu_isa();
  const std::string tag = absl::StrCat("isa ", static_cast<int>(isa));
  hash.Update(tag.data(), tag.size());
  try {
    Convolution(hash, engine, dnnl::memory::data_type::bf16);
  } catch (const dnnl::error& error) {
    // Only "not supported here" is an answer; it is part of the class.
    if (error.status != dnnl_unimplemented) throw;
    hash.Update("no bf16", 7);
  }
}

}  // namespace dermis
