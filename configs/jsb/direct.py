from configs import paper_srnn


def get_config():
  return paper_srnn.music('direct', 0, {'name': 'jsb'}, {'num_steps': 300})
