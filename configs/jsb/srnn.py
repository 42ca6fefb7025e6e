from configs import small_srnn


def get_config():
  return small_srnn.get_config({'name': 'jsb'}, {'num_steps': 4000})
