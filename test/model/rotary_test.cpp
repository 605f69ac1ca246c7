// Rotary frequencies and angles against numbers of an independent implementation: the published formulas, written with
// wavelengths, in Python's double precision.
#include "model/rotary.h"

#include <gtest/gtest.h>

namespace mor::test {
namespace {

void expect_close(const std::vector<double>& values, const std::vector<double>& expected) {
  ASSERT_EQ(values.size(), expected.size());
  for (size_t i = 0; i < values.size(); ++i) EXPECT_NEAR(values[i], expected[i], 1e-14 * std::abs(expected[i])) << i;
}

TEST(Rotary, FrequenciesWithoutScaling) {
  RotaryConfig config;
  expect_close(rotary_frequencies(config, 8), {1, 0.1, 0.01, 0.001});
  config.theta = 500;
  expect_close(rotary_frequencies(config, 4), {1, 0.044721359549995794});
}

TEST(Rotary, LinearScalingDividesEveryFrequency) {
  RotaryConfig config;
  config.scaling = RotaryScaling::linear;
  config.factor = 2.5;
  expect_close(rotary_frequencies(config, 8), {0.4, 0.04, 0.004, 0.0004});
}

/// theta, factor and context of Llama 3.2 1B: 15 frequencies are kept, 3 lie between, 14 are divided.
TEST(Rotary, Llama3ScalingIsThePublishedOne) {
  RotaryConfig config;
  config.theta = 500000;
  config.scaling = RotaryScaling::llama3;
  config.factor = 32;
  config.low_freq_factor = 1;
  config.high_freq_factor = 4;
  config.original_max_position = 8192;
  expect_close(rotary_frequencies(config, 64), {1,
                                                0.66360123769608848,
                                                0.44036660267178046,
                                                0.29222782257301511,
                                                0.19392274474868576,
                                                0.12868737343265052,
                                                0.085397100285765609,
                                                0.056669621445291044,
                                                0.037606030930863933,
                                                0.024955408670558694,
                                                0.016560440080994446,
                                                0.010989528534539826,
                                                0.0072926647372171085,
                                                0.0048394213457198928,
                                                0.0032114459947525913,
                                                0.001290547928209264,
                                                0.00042955679655936815,
                                                9.7082878026276702e-05,
                                                1.9461638184831125e-05,
                                                1.2914767187047391e-05,
                                                8.5702554898814781e-06,
                                                5.6872321504570457e-06,
                                                3.7740542941082826e-06,
                                                2.5044671007024935e-06,
                                                1.6619674677953091e-06,
                                                1.102883668639601e-06,
                                                7.3187496754404192e-07,
                                                4.8567313430101075e-07,
                                                3.2229329303788936e-07,
                                                2.1387422816109151e-07,
                                                1.4192720251899592e-07,
                                                9.4183067254349087e-08});
}

TEST(Rotary, TableHoldsCosinesThenSinesOfEveryPosition) {
  RotaryConfig config;
  config.scaling = RotaryScaling::llama3;
  config.factor = 4;
  config.low_freq_factor = 1;
  config.high_freq_factor = 2;
  config.original_max_position = 256;
  const std::vector<double> table = rotary_table(config, 16, 38);
  ASSERT_EQ(table.size(), 38u * 16);
  for (int j = 0; j < 8; ++j) {
    EXPECT_EQ(table[static_cast<size_t>(j)], 1);
    EXPECT_EQ(table[static_cast<size_t>(8 + j)], 0);
  }
  const std::vector<double> last(table.end() - 16, table.end());
  const std::vector<double> expected = {
      0.7654140519453434,   0.64792190757482582,  -0.84810003171040804,  0.85480812105910264,
      0.99572492452238825,  0.99957221800305252,  0.99995721905503832,   0.99999572187805041,
      -0.6435381333569995,  -0.76170676883207422, -0.5298361409084934,   0.5189441936965925,
      0.092368147566594977, 0.029246897210781237, 0.0092498680917101547, 0.0029251026643333086};
  for (size_t i = 0; i < 16; ++i) EXPECT_NEAR(last[i], expected[i], 1e-13) << i;
}

}  // namespace
}  // namespace mor::test
